"""Notices, and waiting by position."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from annals.database.errors import ConnectionLost
from annals.database.listen import Listener
from annals.database.pool import Database
from annals.database.write_connection import WriteConnection
from annals.eventlog.embedded import EmbeddedLog
from annals.projectors.moved import Moved
from annals.projectors.notices import CHANNEL, GAPS, PAYLOAD_BYTES_MAX, POLICY, SERVERS, Notice, payloads, understood
from annals.projectors.positions.reached import Reached
from annals.projectors.positions.read import lags, projected_ends, vector_of
from annals.projectors.positions.tables import POSITIONS
from annals.projectors.runner import run
from annals.schemas.facts.receipts import ReceiptSet
from tests.support.patience import PATIENCE_S
from tests.support.projectors import append, append_of, envelope, simple_facts

_ids = st.sets(st.text(max_size=255), max_size=60)


def test_positions_are_read_by_the_columns_that_are_declared() -> None:
    found: Any = vector_of([[column.name for column in POSITIONS.columns]])
    assert found == {("topic", "partition"): "next_offset"}


@given(_ids, _ids, st.dictionaries(st.text(max_size=255), st.text(max_size=255), max_size=20))
def test_a_commit_names_all_that_moved(named: set[str], users: set[str], heads: dict[str, str]) -> None:
    rooms = named | heads.keys()
    sent = payloads("g1", {("rooms", 3): 124}, Moved(rooms, users - rooms, heads))
    users = users - rooms
    assert all(len(payload.encode()) <= PAYLOAD_BYTES_MAX for payload in sent)
    notices = [understood(payload) for payload in sent]
    assert all(notice.generation == "g1" for notice in notices)
    # Who waits for the position wakes with the last one: every name has been heard by then.
    assert [notice.positions for notice in notices] == [{}] * (len(notices) - 1) + [{("rooms", 3): 124}]
    if notices[0].everything:
        return
    assert set().union(*(notice.rooms for notice in notices)) == rooms
    assert set().union(*(notice.users for notice in notices)) == users
    assert {room_id: head for notice in notices for room_id, head in notice.heads.items()} == heads


def test_too_many_to_name_is_everything() -> None:
    (sent,) = payloads("g1", {}, Moved({f"!{n}:" + "x" * 200 for n in range(500)}, set()))
    assert understood(sent).everything


def test_every_payload_of_a_commit_says_what_it_leaves_to_do() -> None:
    rooms = {f"!{n}:" + "x" * 200 for n in range(80)}
    notices = [understood(payload) for payload in payloads("g1", {}, Moved(rooms, errands={POLICY, SERVERS}))]
    assert len(notices) > 1
    for notice in notices:
        assert [notice.calls_for(errand) for errand in (POLICY, SERVERS, GAPS)] == [True, True, False]


def test_of_a_notice_that_does_not_say_it_anything_may_be_to_do() -> None:
    assert understood('{"g":"g1","p":[],"r":["!a"]}').calls_for(GAPS)
    assert understood('{"g":"g1","p":[],"all":true,"w":[]}').calls_for(GAPS)


def test_who_waits_wakes_after_the_subscribers(log: EmbeddedLog, tables_url: str) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(log, tables_url, "g1", "test", stop))
    thread.start()
    try:
        asyncio.run(_wait_for_receipts(log, tables_url))
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


async def _wait_for_receipts(log: EmbeddedLog, url: str) -> None:
    database = Database(url, threads=2)
    listener = Listener(url, [CHANNEL])
    await listener.start()
    reached = Reached(database, listener)
    await reached.start()
    heard: list[Notice] = []
    reached.subscribe(heard.append)
    fact = ReceiptSet(envelope(), "!r:test", "@u:test", "m.read", "$e", None, 1)
    vector = {}
    for _ in range(3):
        record = append_of(log, fact)
        (offset,) = await asyncio.to_thread(append, log, [fact])
        vector = {(record.topic, record.partition): offset + 1}
        assert await reached.reached(vector, PATIENCE_S)
        assert any(notice.everything or "!r:test" in notice.rooms for notice in heard)
    assert await reached.reached(vector, 0), "what is reached needs no waiting"
    ahead = {which: offset + 1 for which, offset in vector.items()}
    assert not await reached.reached(ahead, 0.05)
    append(log, simple_facts(random.Random(1), 20))
    assert await reached.reached(projected_ends(log), PATIENCE_S)
    assert set(lags(log, reached.known).values()) == {0}
    await reached.close()
    await listener.close()
    database.close()


def test_what_no_notice_told_is_read_within_a_second(log: EmbeddedLog, tables_url: str) -> None:
    async def wait() -> bool:
        database = Database(tables_url, threads=2)
        listener = Listener(tables_url, [CHANNEL])
        await listener.start()
        reached = Reached(database, listener)
        await reached.start()
        waiting = asyncio.ensure_future(reached.reached({("users", 0): 5}, PATIENCE_S))
        await asyncio.sleep(0)
        connection = WriteConnection(tables_url, "g1")
        connection.execute(
            "INSERT INTO positions (group_name, topic, partition, log_id, next_offset, epoch, decisions_offset,"
            " marked_epoch, decide_version) VALUES ('users', 'users', 0, 'log', 5, 1, 0, 0, 1)"
        )
        connection.close()
        try:
            return await waiting
        finally:
            await reached.close()
            await listener.close()
            database.close()

    assert asyncio.run(wait())


class _NoDatabase:
    """Answers once, then no more."""

    def __init__(self) -> None:
        self._answers = [("g1", {("users", 0): 5})]

    async def read(self, _: object) -> tuple[str, dict[tuple[str, int], int]]:
        if not self._answers:
            raise ConnectionLost("the tables do not answer")
        return self._answers.pop()


class _Listener:
    """Hears what a test says."""

    def subscribe(
        self, channel: str, on_payload: Callable[[str], None], on_reconnect: Callable[[], None]
    ) -> Callable[[], None]:
        self.hear, self.reconnected = on_payload, on_reconnect
        return lambda: None


def test_what_was_said_while_nobody_listened_may_be_of_anybody() -> None:
    """Who waits wakes by the next notice, though the table cannot be read anew: caches are told before."""

    async def wait() -> list[tuple[frozenset[str], bool]]:
        listener, told = _Listener(), list[Notice]()
        reached = Reached(cast(Database, _NoDatabase()), cast(Listener, listener))
        await reached.start()
        reached.subscribe(told.append)
        listener.reconnected()
        for offset in (7, 8):
            waiting = asyncio.ensure_future(reached.reached({("users", 0): offset}, PATIENCE_S))
            await asyncio.sleep(0)
            listener.hear(payloads("g1", {("users", 0): offset}, Moved(set(), {"@bob:test"}))[0])
            assert await waiting
        await reached.close()
        return [(notice.users, notice.everything) for notice in told]

    users = frozenset(["@bob:test"])
    # Of 5 and 6 nobody knows whom they were about; behind 7 all is heard again.
    assert asyncio.run(wait()) == [(users, True), (users, False)]
