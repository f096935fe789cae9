"""Processes over tables of which those of rooms and those of users are folded apart, each when a test says so.

with folded_apart(postgres, directory) as world:    # a log, a loop for `rooms`, and one for all else
    order = Order("abc")                            # those who run side by side go on in this order
    world.process(order, …)                         # the commands of a process, which wait for their turns
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from annals.commands.aliases import Aliases
from annals.commands.profile_fan_out import ProfileFanOut
from annals.commands.profiles import FAN_OUT, Profiles
from annals.commands.rooms.builder import Builders, Workshop
from annals.commands.rooms.creating import CREATE_ROOM, RoomCommandKind, RoomCreation
from annals.commands.rooms.drafts import Drafts
from annals.commands.rooms.handshakes import Handshakes
from annals.commands.rooms.inheritance import Inheritance
from annals.commands.rooms.inviting import OutgoingInvites
from annals.commands.rooms.power import RoomPower
from annals.commands.rooms.service import Rooms
from annals.commands.rooms.showing import Showing
from annals.commands.rooms.tables import PostgresRoomTables
from annals.commands.rooms.upgrading import UPGRADE_ROOM, Upgrades
from annals.commands.worker import Kind, Worker
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.eventlog.api import Log, TopicPartition
from annals.eventlog.embedded import open_embedded
from annals.matrix.events import Event
from annals.projectors.groups import GROUPS
from annals.projectors.loop import Loop
from annals.projectors.positions.appending import Appender, Submitted
from annals.schemas.records import Addressed
from annals.schemas.topics import TOPICS, decisions_topic
from tests.support.driven_builder import NobodyAsked
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer
from tests.support.projectors import connector, running
from tests.support.rooms import SERVER, SIGNER
from tests.support.spare_tables import spare_tables

T = TypeVar("T")
ROOMS, USERS, OTHERS = "rooms", "users", "directory"


class Order:
    """What comes after what. Who comes to a turn that is not its own waits; one that is not in the order does not."""

    def __init__(self, turns: Iterable[str]) -> None:
        self._left = list(turns)
        self._moved = asyncio.Condition()

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """What is done within is done in its turn."""
        if name not in self._left:
            yield
            return
        async with self._moved:
            await self._moved.wait_for(lambda: name not in self._left or self._left[0] == name)
        try:
            yield
        finally:
            await self.without(name)

    async def without(self, names: Iterable[str]) -> None:
        """Nobody comes to these any more."""
        async with self._moved:
            self._left = [name for name in self._left if name not in names]
            self._moved.notify_all()

    async def act(self, turns: str, action: Awaitable[T]) -> T:
        """Do something that comes to these turns, or to some of them."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await action
        finally:
            await self.without(turns)


FREE = Order(())


@dataclass
class _Reads:
    """Reads that come to a turn."""

    database: Database
    order: Order
    name: str

    async def read(self, fn: Callable[[Snapshot], T]) -> T:
        async with self.order.turn(self.name):
            return await self.database.read(fn)


class _Showing(Showing):
    """Reads of profiles come to their turns, one after the other."""

    order, names = FREE, ""

    async def profiles(self, user_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        name, self.names = self.names[:1], self.names[1:]
        async with self.order.turn(name):
            return await super().profiles(user_ids)


class _Appender(Appender):
    order, name = FREE, ""

    async def submit_records(self, records: Sequence[Addressed]) -> Submitted:
        async with self.order.turn(self.name):
            return await super().submit_records(records)


@dataclass
class _Folds:
    """Waits for tables by folding them, in its turn."""

    world: World
    order: Order
    turns: Mapping[str, str]
    known: dict[TopicPartition, int] = field(default_factory=dict)

    async def reached(self, vector: Mapping[TopicPartition, int], timeout_s: float) -> bool:
        for topic in sorted({topic for topic, _ in vector}):
            async with self.order.turn(self.turns.get(topic, "")):
                self.world.fold(topic)
        return True


class _Held:
    async def held(self) -> bool:
        return True


async def _nobody(event: Event) -> Event:
    raise AssertionError("no other server is asked")


@dataclass(frozen=True, slots=True)
class Process:
    """Commands of one process."""

    aliases: Aliases
    profiles: Profiles
    rooms: Rooms
    worker: Worker


@dataclass
class World:
    """A log and its tables."""

    log: Log
    url: str
    database: Database
    loops: Mapping[str, Loop]
    builders: list[Builders] = field(default_factory=list)
    now_ms: int = 1_700_000_000_000

    def fold(self, topic: str) -> None:
        """All that is on the log, of rooms, of users, or of all else."""
        self.loops[topic if topic in self.loops else OTHERS].catch_up()
        for builders in self.builders:
            builders.all_moved()

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Of one snapshot."""
        return self.database.read_now(lambda snapshot: snapshot.rows(sql, params))

    def process(
        self, order: Order = FREE, *, shows: str = "", lists: str = "", appends: str = "", folds: Mapping[str, str] = {}
    ) -> Process:
        """`shows`: the turns of its reads of profiles for member events; `lists`: of who changes a profile, before;
        `appends`: of each append; `folds`: of waits for a topic's tables."""
        appender = _Appender(self.log, _Folds(self, order, folds), self._clock, "test", "test", wait_s=PATIENCE_S)
        appender.order, appender.name = order, appends
        database = self.database
        showing = _Showing(appender, database)
        showing.order, showing.names = order, shows
        workshop = Workshop(appender, PostgresRoomTables(database), SIGNER, self._clock, NobodyAsked())
        builders, drafts = Builders(workshop), Drafts(workshop)
        self.builders.append(builders)
        aliases = Aliases(appender, database, RoomPower(), SERVER)
        outgoing = OutgoingInvites(drafts, builders, _nobody)
        creation = RoomCreation(appender, builders, aliases, SIGNER, outgoing, showing)
        handshakes = Handshakes(appender, database, SERVER, lambda _: lambda: None)
        upgrades = Upgrades(creation, builders, aliases, database, RoomPower())
        rooms = Rooms(
            *(appender, database, builders, creation, outgoing, SERVER, "12", handshakes, upgrades),
            *(Inheritance(appender, database), showing),
        )
        kinds: dict[str, Kind] = {
            FAN_OUT: ProfileFanOut(database, rooms),
            CREATE_ROOM: RoomCommandKind(creation.carry_out),
            UPGRADE_ROOM: RoomCommandKind(upgrades.carry_out),
        }
        profiles = Profiles(appender, cast(Database, _Reads(database, order, lists)))
        return Process(aliases, profiles, rooms, Worker(appender, database, kinds, _Held()))

    def _clock(self) -> int:
        self.now_ms += 1
        return self.now_ms


@contextmanager
def folded_apart(postgres: PostgresServer, directory: Path) -> Iterator[World]:
    """A world in which nothing has happened; its log in `directory`."""
    with ExitStack() as parts:
        url = parts.enter_context(spare_tables(postgres).tables())
        log = parts.enter_context(closing(open_embedded(directory / "log")))
        log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
        groups = {ROOMS: (ROOMS,), USERS: (USERS,), OTHERS: tuple(GROUPS.keys() - {ROOMS, USERS})}
        loops = {
            name: parts.enter_context(running(log, connector(url), owner=name, groups=of, alone=True))
            for name, of in groups.items()
        }
        yield World(log, url, parts.enter_context(closing(Database(url, threads=2))), loops)
