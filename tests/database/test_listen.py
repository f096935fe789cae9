"""Hearing a NOTIFY at once, and hearing again after the connection broke."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from queue import Empty, Queue

import pytest

from annals.database.errors import ConnectionLost
from annals.database.listen import Listener
from annals.database.write_connection import WriteConnection
from tests.support.patience import PATIENCE_S
from tests.support.postgres import database_name

RECONNECTED = "(reconnected)"


@pytest.fixture
def heard() -> Queue[str]:
    return Queue()


@pytest.fixture
def listener(url: str, heard: Queue[str]) -> Iterator[Listener]:
    listener = Listener(url, "Moved", heard.put, lambda: heard.put(RECONNECTED))
    yield listener
    listener.close()


def notify(writer: WriteConnection, payload: str, channel: str = "Moved") -> None:
    writer.execute("SELECT pg_notify(%s, %s)", (channel, payload))


def test_payloads_arrive_in_order(listener: Listener, heard: Queue[str], writer: WriteConnection) -> None:
    for number in range(20):
        notify(writer, str(number))
        assert heard.get(timeout=PATIENCE_S) == str(number)


def test_other_channels_are_not_heard(listener: Listener, heard: Queue[str], writer: WriteConnection) -> None:
    notify(writer, "no", "moved")
    notify(writer, "yes")
    assert heard.get(timeout=PATIENCE_S) == "yes"


def test_what_is_rolled_back_is_not_heard(listener: Listener, heard: Queue[str], writer: WriteConnection) -> None:
    writer.begin()
    notify(writer, "no")
    writer.rollback()
    notify(writer, "yes")
    assert heard.get(timeout=PATIENCE_S) == "yes"


def test_a_broken_connection_is_replaced_and_told(
    listener: Listener, heard: Queue[str], writer: WriteConnection
) -> None:
    for _ in range(2):
        writer.execute(
            "SELECT pg_terminate_backend(pid, 300000) FROM pg_stat_activity"
            " WHERE application_name = 'annals listen' AND datname = current_database()"
        )
        assert heard.get(timeout=PATIENCE_S) == RECONNECTED
        notify(writer, "again")
        assert heard.get(timeout=PATIENCE_S) == "again"


def test_a_callback_that_raises_does_not_end_it(url: str, heard: Queue[str], writer: WriteConnection) -> None:
    def fail_first(payload: str) -> None:
        if payload == "bad":
            raise KeyError(payload)
        heard.put(payload)

    listener = Listener(url, "Moved", fail_first, lambda: None)
    notify(writer, "bad")
    notify(writer, "good")
    assert heard.get(timeout=PATIENCE_S) == "good"
    listener.close()


def test_nothing_is_heard_after_close(listener: Listener, heard: Queue[str], writer: WriteConnection) -> None:
    listener.close()
    listener.close()
    notify(writer, "late")
    with pytest.raises(Empty):
        heard.get(timeout=0.1)


@pytest.mark.usefixtures("own_database")
def test_close_ends_a_listener_that_cannot_connect(url: str, writer: WriteConnection, heard: Queue[str]) -> None:
    listener = Listener(url, "Moved", heard.put, lambda: None)
    name = database_name(url)
    other = WriteConnection(url.replace(f"/{name}?", "/postgres?"))
    other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'annals listen'")
    other.close()
    time.sleep(0.3)
    closing = threading.Thread(target=listener.close)
    closing.start()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()


def test_without_a_server_the_constructor_says_so() -> None:
    with pytest.raises(ConnectionLost):
        Listener("postgresql://annals@127.0.0.1:1/none", "Moved", print, lambda: None)
