"""A projector on an embedded log and a real PostgreSQL, driven batch by batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Append, Log
from annals.eventlog.partition import partition_of
from annals.migrations.tables import all_tables
from annals.projectors.loop import Loop, Settings
from annals.schemas.facts import directory, receipts, users
from annals.schemas.facts.envelope import Envelope, Sealed
from annals.schemas.records import record_of

SERVER_NAME = "test"
OPERATIONAL = ("operational",)


def envelope(at_ms: int = 1, key: str | None = None) -> Envelope:
    """An envelope that is the same in every run."""
    return Envelope(at_ms, "test", "1", None, key)


def append_of(log: Log, fact: Any) -> Append:
    """The append of a fact."""
    record = record_of(fact)
    count = log.partitions(record.topic)
    partition = record.partition if record.partition is not None else partition_of(record.partition_key, count)
    return Append(record.topic, partition, record.record_key, record.value)


def append(log: Log, facts: Sequence[Any]) -> list[int]:
    """Append facts, wait, and give their offsets."""
    return log.append([append_of(log, fact) for fact in facts]).result()


Connect = Callable[[], WriteConnection]


def connector(url: str, generation: str = "g1") -> Connect:
    """How a loop of a test connects."""
    return lambda: WriteConnection(url, generation, purpose="test projector")


@contextmanager
def running(log: Log, connect: Connect, owner: str = "first", **settings: Any) -> Iterator[Loop]:
    """A loop that has taken its partitions; closed at the end."""
    loop = Loop(log, connect, Settings("g1", SERVER_NAME, owner, **settings))
    try:
        loop.take()
        yield loop
    finally:
        loop.close()


def dump(url: str, generation: str = "g1") -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables but the operational ones, in order, and the next offsets."""
    connection = WriteConnection(url, generation, purpose="test dump")
    try:
        rows: dict[str, list[tuple[Any, ...]]] = {}
        filled = _filled(connection)
        for table in all_tables().sorted_tables:
            if table.info["rebuild"] not in OPERATIONAL:
                columns = ", ".join(f'"{column.name}"' for column in table.columns)
                sql = f'SELECT {columns} FROM "{table.name}" ORDER BY {columns}'
                rows[table.name] = connection.rows(sql) if table.name in filled else []
        rows["next_offsets"] = connection.rows(
            "SELECT group_name, topic, partition, next_offset FROM positions ORDER BY 1, 2, 3"
        )
        return rows
    finally:
        connection.close()


def empty(url: str, generation: str = "g1") -> None:
    """Remove all rows of a generation."""
    connection = WriteConnection(url, generation, purpose="test")
    # Where tables are small, to truncate them all takes longer: each gets new files.
    for name in _filled(connection):
        connection.execute(f'DELETE FROM "{name}"')
    connection.close()


def _filled(connection: WriteConnection) -> frozenset[str]:
    """The tables that have rows."""
    names = [table.name for table in all_tables().sorted_tables]
    rows = connection.rows(
        " UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT FROM \"{name}\")" for name in names)
    )
    return frozenset(name for (name,) in rows)


def simple_facts(rng: random.Random, count: int) -> list[Any]:
    """Facts of users, directory and receipts that contend for few names."""
    names = ["@ann:test", "@bob:test", "@z\x00e:test"]
    return [_simple_fact(rng, rng.choice(names), number) for number in range(count)]


def _simple_fact(rng: random.Random, user_id: str, number: int) -> Any:
    of = envelope(number, f"key{number}")
    device = users.DeviceGiven(rng.choice(["A", "B"]), number.to_bytes(32, "big"), rng.choice([None, b"phone"]))
    alias, room_id = rng.choice(["#a:test", "#b:test"]), rng.choice(["!r:test", "!s:test"])
    makers: list[Callable[[], Any]] = [
        lambda: users.AccountRegistered(of, user_id, Sealed("k", b"n", b"\x00\xff"), False, device),
        lambda: users.DeviceLoggedIn(of, user_id, device),
        lambda: users.DeviceLoggedOut(of, user_id, device.device_id),
        lambda: users.AllDevicesLoggedOut(of, user_id),
        lambda: users.ProfileFieldSet(of, user_id, "displayname", rng.choice([None, b'"x"', Sealed("k", b"n", b"d")])),
        lambda: users.FilterAdded(of, user_id, f"f{number % 3}", b"{}"),
        lambda: users.AccountDataSet(of, user_id, rng.choice([None, room_id]), "m.tag", b'{"n":1}'),
        lambda: users.CommandStarted(of, user_id, f"c{number % 4}", "fan_out", b"{}"),
        lambda: users.CommandFinished(of, user_id, f"c{number % 4}", rng.choice(["done", "gone"]), None),
        lambda: directory.AliasClaimed(of, alias, room_id, user_id),
        lambda: directory.AliasReleased(of, alias, room_id, user_id),
        lambda: directory.AliasLapsed(of, alias, room_id, "no room"),
        lambda: directory.RoomPublished(of, room_id, user_id, rng.choice(["public", "private"])),
        lambda: receipts.ReceiptSet(of, room_id, user_id, "m.read", f"${number}", rng.choice([None, "main"]), number),
    ]
    return rng.choice(makers)()
