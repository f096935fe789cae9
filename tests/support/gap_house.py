"""Log, tables, projectors and the fetchers of `ingest`, with a user of ours in a scripted peer's room.

async with gap_house(url, directory, authority) as house:
    room = await house.enter(PeerRoom(peer))
    await house.push(event)               # as a transaction of the peer would
    await house.until_settled(room)       # nothing is wanted any more
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annals.database.leases import OpsLease
from annals.database.listen import Listener
from annals.database.pool import Database
from annals.eventlog.api import Log
from annals.eventlog.embedded import open_embedded
from annals.federation.backoff import BackoffRule
from annals.federation.client import FederationClient
from annals.ingest.fetchers.answers import Answers
from annals.ingest.fetchers.filling import Filler
from annals.ingest.fetchers.follower import WantedFollower
from annals.ingest.fetchers.history import History
from annals.ingest.fetchers.origins import Origins
from annals.ingest.fetchers.questions import Questions
from annals.ingest.fetchers.servers import ServersAsked
from annals.ingest.key_service import open_keyring
from annals.ingest.key_store import MemoryKeyStore
from annals.ingest.pdu_facts import pdu_fetched, pdu_received
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.verification import Verified
from annals.matrix.events import Event
from annals.matrix.signing import SigningKey
from annals.projectors import runner
from annals.projectors.notices import CHANNEL
from annals.projectors.positions.appending import Appender
from annals.projectors.positions.reached import Reached
from annals.rooms.heads import fact_of
from annals.schemas.codec import decode
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.rooms import HandshakeStarted, StateSetChunk, StateSetClosed
from annals.schemas.topics import TOPICS, decisions_topic
from annals.server.log_setup import begin_log
from tests.support.patience import PATIENCE_S
from tests.support.peer_room import NOW_MS, PeerRoom
from tests.support.scripted_peer import Authority, a_client

US = "us.example"
KEY = SigningKey("ed25519:u_1", b"\7" * 32)
ALICE = f"@alice:{US}"
#: Who holds a lease renews it in time, on a slow machine too.
LEASE_MS = int(PATIENCE_S * 1000)


@dataclass
class GapHouse:
    """One server's share of what fills gaps."""

    log: Log
    database: Database
    reached: Reached
    appender: Appender
    client: FederationClient
    filler: Filler
    answers: Answers
    history: History
    servers: ServersAsked

    async def enter(self, room: PeerRoom) -> PeerRoom:
        """Everything that the peer has of the room so far, and a join of our user behind it."""
        room.keys.setdefault(US, KEY)
        before = list(room.events.values())
        join = room.join(ALICE)
        facts = [
            pdu_received(Verified(event, (), True), self.appender.envelope(), room.peer.name, "t") for event in before
        ]
        created = fact_of(join, self.appender.envelope())
        await self.appender.settle(await self.appender.submit([*facts, created]))
        assert (await self.verdicts(room))[join.event_id] == "accepted"
        return room

    async def enter_late(self, room: PeerRoom) -> PeerRoom:
        """A join of our user by way of the peer: of what was before we get the state alone."""
        room.keys.setdefault(US, KEY)
        join = room.join(ALICE)
        state = [room.events[i] for i in room.state_before[join.event_id].values()]
        envelope, peer = self.appender.envelope(), room.peer.name
        facts: list[Fact] = [HandshakeStarted(envelope, room.id, "h1", "join", ALICE, (peer,), b"{}")]
        facts += [pdu_fetched(Verified(event, (), True), envelope, peer, "send_join", "state") for event in state]
        facts += [
            StateSetChunk(envelope, room.id, "s1", "state", 0, tuple(ids(state))),
            pdu_fetched(Verified(join, (), True), envelope, peer, "send_join", "anchor"),
            StateSetClosed(envelope, room.id, "s1", "join", join.event_id, peer, len(state), 0, "h1"),
        ]
        await self.appender.settle(await self.appender.submit(facts))
        assert (await self.verdicts(room))[join.event_id] == "accepted"
        return room

    async def push(self, *events: Event, origin: str | None = None) -> None:
        """The events as facts of a transaction; returns when they are decided or parked."""
        facts = [
            pdu_received(Verified(e, (), True), self.appender.envelope(), origin or e.sender.partition(":")[2], "txn")
            for e in events
        ]
        await self.appender.settle(await self.appender.submit(facts))

    async def verdicts(self, room: PeerRoom) -> dict[str, str]:
        """What the tables say of each event; outliers with an asterisk."""
        sql = "SELECT event_id, verdict || CASE WHEN outlier THEN '*' ELSE '' END FROM events WHERE room_id = %s"
        return dict(await self.database.read(lambda snapshot: snapshot.rows(sql, (room.id,))))

    async def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Rows of the tables."""
        return await self.database.read(lambda snapshot: snapshot.rows(sql, params))

    async def extremities(self, room: PeerRoom) -> set[str]:
        """The room's forward extremities."""
        rows = await self.rows("SELECT event_id FROM forward_extremities WHERE room_id = %s", room.id)
        return {event_id for (event_id,) in rows}

    def facts(self, topic: str = "rooms") -> list[Any]:
        """Everything on a topic of the log."""
        return [
            decode(record.value)
            for partition in range(self.log.partitions(topic))
            for record in self.log.read(topic, partition, 0, 100_000)
            if record.value is not None
        ]

    async def wants(self, room: PeerRoom) -> list[tuple[Any, ...]]:
        """What the room lacks: (event id, kind)."""
        return await self.rows("SELECT event_id, kind FROM wanted WHERE room_id = %s ORDER BY 1", room.id)

    def follower(self, owner: str = "one", **more: Any) -> WantedFollower:
        """A follower of `wanted`, that hears the notices."""

        def lease(room_id: str) -> OpsLease:
            return OpsLease(self.database, f"gap/{room_id}", owner, lambda: int(time.time() * 1000), LEASE_MS)

        follower = WantedFollower(self.database, self.filler, lease, **more)
        self.reached.subscribe(lambda notice: follower.moved(notice.rooms, notice.everything))
        return follower

    @asynccontextmanager
    async def following(self, **more: Any) -> AsyncIterator[WantedFollower]:
        """A follower that runs."""
        follower = self.follower(**more)
        task = asyncio.create_task(follower.run())
        try:
            yield follower
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def ids(events: Iterable[Event]) -> list[str]:
    """Their ids."""
    return [event.event_id for event in events]


@asynccontextmanager
async def gap_house(url: str, directory: Path, authority: Authority) -> AsyncIterator[GapHouse]:
    """A house over the migrated database at `url`."""
    async with AsyncExitStack() as parts:
        log = parts.enter_context(closing(open_embedded(directory / "log")))
        log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
        begin_log(log, US)
        stop = threading.Event()
        loop = threading.Thread(target=runner.run, args=(log, url, "g1", US, stop))
        loop.start()
        parts.callback(loop.join)
        parts.callback(stop.set)
        database = parts.enter_context(closing(Database(url, threads=2)))
        listener = Listener(url, [CHANNEL])
        await listener.start()
        parts.push_async_callback(listener.close)
        reached = Reached(database, listener)
        await reached.start()
        parts.push_async_callback(reached.close)
        appender = Appender(log, reached, lambda: NOW_MS, "test", "remote", wait_s=PATIENCE_S)
        client = await parts.enter_async_context(a_client(authority, patient=True, server_name=US, key=KEY))
        keyring = open_keyring(client, US, [KEY], MemoryKeyStore(), [], lambda: NOW_MS, lambda: 0.5)
        parts.push_async_callback(keyring.close)
        threads = parts.enter_context(ThreadPoolExecutor(1))
        # Longer waits than in production: on a slow machine, too, they are not over before the test is.
        rule = BackoffRule(first_ms=600_000, factor=2, longest_ms=600_000)
        servers = ServersAsked(lambda: int(time.monotonic() * 1000), lambda: 0.5, rule)
        questions = Questions(client, servers, threads)
        answers = Answers(PduVerifier(keyring, threads), appender, threads, PATIENCE_S)
        filler = Filler(US, questions, answers, database, Origins(log.read), PATIENCE_S)
        # Its clock stands: what was asked in vain is remembered to the end.
        history = History(US, questions, answers, database, reached, lambda: 0.0, PATIENCE_S)
        yield GapHouse(log, database, reached, appender, client, filler, answers, history, servers)
