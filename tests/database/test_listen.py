"""Hearing a NOTIFY at once, and hearing again after the connection broke."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue

import pytest

from annals.database.errors import ConnectionLost
from annals.database.listen import Listener
from annals.database.write_connection import WriteConnection
from tests.support.hearing import RECONNECTED, hearing
from tests.support.patience import PATIENCE_S

_END_LISTENERS = (
    "SELECT pg_terminate_backend(pid, 300000) FROM pg_stat_activity"
    " WHERE application_name = 'annals listen' AND datname = current_database()"
)


@pytest.fixture
def heard(url: str) -> Iterator[SimpleQueue[str]]:
    with hearing(url, "Moved") as payloads:
        yield payloads


def notify(writer: WriteConnection, payload: str, channel: str = "Moved") -> None:
    writer.execute("SELECT pg_notify(%s, %s)", (channel, payload))


def test_payloads_arrive_in_order(heard: SimpleQueue[str], writer: WriteConnection) -> None:
    for number in range(20):
        notify(writer, str(number))
        assert heard.get(timeout=PATIENCE_S) == str(number)


def test_other_channels_are_not_heard(heard: SimpleQueue[str], writer: WriteConnection) -> None:
    notify(writer, "no", "moved")
    notify(writer, "yes")
    assert heard.get(timeout=PATIENCE_S) == "yes"


def test_what_is_rolled_back_is_not_heard(heard: SimpleQueue[str], writer: WriteConnection) -> None:
    writer.begin()
    notify(writer, "no")
    writer.rollback()
    notify(writer, "yes")
    assert heard.get(timeout=PATIENCE_S) == "yes"


def test_a_broken_connection_is_replaced_and_told(heard: SimpleQueue[str], writer: WriteConnection) -> None:
    for _ in range(2):
        writer.execute(_END_LISTENERS)
        assert heard.get(timeout=PATIENCE_S) == RECONNECTED
        notify(writer, "again")
        assert heard.get(timeout=PATIENCE_S) == "again"


class _Hearing:
    """A listener on the event loop of an async test, with what its subscribers heard."""

    def __init__(self, url: str, *channels: str) -> None:
        self.listener = Listener(url, channels)
        self.heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def hear(self, channel: str, name: str) -> None:
        self.listener.subscribe(channel, lambda payload: self.heard.put_nowait((name, payload)))

    async def next(self) -> tuple[str, str]:
        return await asyncio.wait_for(self.heard.get(), PATIENCE_S)


@pytest.mark.anyio
async def test_each_channel_has_its_subscribers_and_one_connection_hears_all(url: str, writer: WriteConnection) -> None:
    hearing = _Hearing(url, "Moved", "failing")
    await hearing.listener.start()
    hearing.hear("Moved", "first")
    hearing.hear("failing", "other")
    hearing.hear("Moved", "second")
    notify(writer, "a", "failing")
    notify(writer, "b")
    assert [await hearing.next() for _ in range(3)] == [("other", "a"), ("first", "b"), ("second", "b")]
    sql = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'annals listen' AND datname = current_database()"
    )
    assert writer.one(sql) == (1,)
    with pytest.raises(ValueError, match="elsewhere"):
        hearing.hear("elsewhere", "third")
    await hearing.listener.close()


@pytest.mark.anyio
async def test_who_has_unsubscribed_is_not_called(url: str, writer: WriteConnection) -> None:
    hearing = _Hearing(url, "Moved")
    await hearing.listener.start()
    unsubscribe = hearing.listener.subscribe("Moved", lambda payload: hearing.heard.put_nowait(("gone", payload)))
    hearing.hear("Moved", "there")
    notify(writer, "one")
    assert [await hearing.next() for _ in range(2)] == [("gone", "one"), ("there", "one")]
    unsubscribe()
    notify(writer, "two")
    assert await hearing.next() == ("there", "two")
    await hearing.listener.close()


@pytest.mark.anyio
async def test_a_callback_that_raises_does_not_end_it(url: str, writer: WriteConnection) -> None:
    hearing = _Hearing(url, "Moved")
    await hearing.listener.start()
    hearing.listener.subscribe("Moved", lambda payload: {"good": None}[payload])
    hearing.hear("Moved", "there")
    notify(writer, "bad")
    notify(writer, "good")
    assert [await hearing.next() for _ in range(2)] == [("there", "bad"), ("there", "good")]
    await hearing.listener.close()


def test_nothing_is_heard_after_close(url: str, writer: WriteConnection) -> None:
    with hearing(url, "Moved") as heard:
        pass
    notify(writer, "late")
    with pytest.raises(Empty):
        heard.get(timeout=0.1)


@pytest.mark.usefixtures("own_database")
def test_close_ends_a_listener_that_cannot_connect(url: str, writer: WriteConnection) -> None:
    name = url.partition("?")[0].rpartition("/")[2]
    with hearing(url, "Moved") as heard:
        other = WriteConnection(url.replace(f"/{name}?", "/postgres?"))
        other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'annals listen'")
        other.close()
        time.sleep(0.3)
    assert heard.empty()


@pytest.mark.anyio
async def test_without_a_server_the_start_says_so() -> None:
    with pytest.raises(ConnectionLost):
        await Listener("postgresql://annals@127.0.0.1:1/none", ["Moved"]).start()
