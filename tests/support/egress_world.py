"""Sending to other servers over a real log and real tables, with servers that are scripts: they keep what they are put.

async with sending(world) as out:
    world.feed(room, joins(room, "@bob:peer.one"))
    event = world.say(room, "alice")
    await out.until(lambda: event.event_id in out.peers.got("peer.one"))
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from annals.database.listen import Listener
from annals.egress.heard import HEARD_CHANNEL
from annals.egress.service import Egress
from annals.egress.vectors import ROOMS
from annals.federation.errors import FederationError, Unreachable
from annals.matrix.events import Event, parse_event
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.rooms.heads import Intent
from annals.schemas.facts.rooms import RoomFact
from annals.schemas.position import step_start
from tests.support.rooms import SERVER, Driver, received
from tests.support.sync_world import NOW_MS, World
from tests.support.waiting import until_async

MEMBER = "m.room.member"


@dataclass
class Put:
    """A transaction as it came."""

    txn_id: str
    content: dict[str, Any]


@dataclass
class Peers:
    """What other servers got. `down`: what a server answers instead; `gates`: answers that wait."""

    version: str = "12"
    puts: defaultdict[str, list[Put]] = field(default_factory=lambda: defaultdict(list))
    down: dict[str, Callable[[str], FederationError]] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    attempts: defaultdict[str, list[Put]] = field(default_factory=lambda: defaultdict(list))
    _ended: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    most_under_way: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    async def put(self, server: str, path: str, content: dict[str, Any], *, timeout_s: float | None = None) -> Any:
        """Take a transaction, or fail."""
        put = Put(path.rpartition("/")[2], content)
        self.attempts[server].append(put)
        under_way = len(self.attempts[server]) - self._ended[server]
        self.most_under_way[server] = max(self.most_under_way[server], under_way)
        try:
            if (gate := self.gates.get(server)) is not None:
                await gate.wait()
            if (failure := self.down.get(server)) is not None:
                raise failure(server)
        finally:
            self._ended[server] += 1
        self.puts[server].append(put)
        return {"pdus": {}}

    def pdus(self, server: str) -> list[dict[str, Any]]:
        """The PDUs that a server took, in order."""
        return [pdu for put in self.puts[server] for pdu in put.content["pdus"]]

    def got(self, server: str) -> list[str]:
        """Their event ids."""
        rules = ROOM_VERSIONS[self.version]
        return [parse_event(pdu, rules).event_id for pdu in self.pdus(server)]

    def edus(self, server: str) -> list[dict[str, Any]]:
        """The EDUs that a server took, in order."""
        return [edu for put in self.puts[server] for edu in put.content.get("edus", ())]


@dataclass
class Out:
    """A running egress. `now_ms` is its clock, which stands still unless a test sets it."""

    egress: Egress
    peers: Peers
    clock: list[int]

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for it, waking the sender meanwhile as the tables' notices would."""

        def look() -> bool:
            if holds():
                return True
            self.egress.wake()
            return False

        await until_async(look)

    async def settled(self, world: World) -> None:
        """Wait until all that the tables have was handed out and nothing is under way."""
        ends = tuple(step_start(end) for end in world.log.ends(ROOMS))
        await self.until(lambda: self.egress.sender is not None and self.egress.sender.position == ends)
        await self.until(lambda: not any(d.busy for d in self.destinations().values()))

    def destinations(self) -> dict[str, Any]:
        """What the sender knows of each server."""
        return {} if self.egress.sender is None else self.egress.sender.destinations

    def later(self, by_ms: int) -> None:
        """Set the clock forward."""
        self.clock[0] += by_ms
        if self.egress.sender is not None:
            self.egress.sender.retry_due()


def unreachable(server: str) -> FederationError:
    """No answer came."""
    return Unreachable(server, "it is away")


@asynccontextmanager
async def sending(
    world: World, peers: Peers | None = None, owner: str = "first", at_ms: int = NOW_MS, **more: Any
) -> AsyncIterator[Out]:
    """Egress over the world's tables, until the end of the block; then it is stopped in good order."""
    peers, clock = peers or Peers(), [at_ms]
    listener = Listener(world.database.url, [HEARD_CHANNEL])
    await listener.start()
    egress = Egress(peers, world.database, listener, world.log, SERVER, owner, lambda: clock[0], **more)
    out = Out(egress, peers, clock)
    task = asyncio.create_task(egress.run())
    try:
        await out.until(lambda: egress.sender is not None or task.done())
        yield out
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await listener.close()


def remote_event(room: Driver, sender: str, kind: str, content: dict[str, Any], state_key: str | None = None) -> Event:
    """An event of another server's user on the room's head."""
    rules = room.view.known_header().rules
    assert rules
    return room.build(Intent(sender, kind, content, state_key), rules, NOW_MS + room.offset)


def membership(room: Driver, user_id: str, what: str = "join", via: str | None = None) -> RoomFact:
    """A user of another server changes their own membership. `via`: how it came to us."""
    fact = received(remote_event(room, user_id, MEMBER, {"membership": what}, user_id))
    return replace(fact, origin=user_id.partition(":")[2], via=via or "transaction")
