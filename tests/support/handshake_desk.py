"""Handshakes without a server: the runner over a log and tables in memory, with scripted peers around it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from annals.ingest.handshakes import runner
from annals.ingest.handshakes.desk import Desk, Handshake
from annals.ingest.handshakes.runner import Runner
from annals.ingest.key_service import open_keyring
from annals.ingest.key_store import MemoryKeyStore
from annals.ingest.pdu_verifier import PduVerifier
from annals.matrix.events import Event
from annals.matrix.signing import SigningKey
from annals.projectors.positions.appending import Submitted
from annals.schemas.codec import decode, encode
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.rooms import HandshakeFailed, MembershipReceived, StateSetClosed
from tests.support.patience import PATIENCE_S
from tests.support.scripted_peer import Authority, a_client
from tests.support.scripted_room import RoomPeer

F = TypeVar("F", bound=Fact)
US = "us.example"
USER = f"@ann:{US}"
KEY = SigningKey("ed25519:u_1", b"\7" * 32)


def now_ms() -> int:
    """Of the machine."""
    return int(time.time() * 1000)


@dataclass
class MemoryLog:
    """Writer and tables. A handshake ends here as the machine would end it if it accepted everything."""

    facts: list[Fact] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    invites: dict[tuple[str, str], Event] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    started: dict[str, Handshake] = field(default_factory=dict)
    decides: bool = True
    before_submit: Callable[[Sequence[Fact]], Awaitable[None]] | None = None
    before_settled: Callable[[Submitted], Awaitable[None]] | None = None

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        return Envelope(now_ms(), "remote", "1", cause, idempotency_key)

    async def submit(self, facts: Sequence[Fact]) -> Submitted:
        if self.before_submit is not None:
            await self.before_submit(facts)
        for fact in facts:
            # Whatever goes on the log must fit its schema.
            assert decode(encode(fact)) == fact
        self.facts += facts
        self.batches.append(len(facts))
        return Submitted(tuple(("rooms", 0, n) for n in range(len(facts))))

    async def settle(self, submitted: Submitted, timeout_s: float = 10.0) -> None:
        """All is decided at once, unless a test says when."""
        if self.before_settled is not None:
            await self.before_settled(submitted)

    async def known_events(self, room_id: str, event_ids: Sequence[str]) -> frozenset[str]:
        return frozenset(self.known.intersection(event_ids))

    async def open(self) -> list[Handshake]:
        return [handshake for handshake in self.started.values() if self._outcome(handshake.handshake_id) is None]

    async def outcome(self, handshake: Handshake) -> str | None:
        return self._outcome(handshake.handshake_id)

    async def invite_or_knock(self, room_id: str, user_id: str) -> Event | None:
        return self.invites.get((room_id, user_id))

    def _outcome(self, handshake_id: str) -> str | None:
        for fact in self.facts:
            if getattr(fact, "handshake_id", None) != handshake_id:
                continue
            if isinstance(fact, HandshakeFailed):
                return "failed"
            if isinstance(fact, StateSetClosed | MembershipReceived) and self.decides:
                return "completed"
        return None

    def all(self, kind: type[F]) -> list[F]:
        """Facts of a kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]


class Leases:
    """Leases that this process always gets, unless a test takes them away."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.asked: list[str] = []

    def of(self, name: str) -> Leases._One:
        return Leases._One(self, name)

    class _One:
        def __init__(self, leases: Leases, name: str) -> None:
            self._leases, self._name = leases, name

        async def held(self) -> bool:
            self._leases.asked.append(self._name)
            return self._name not in self._leases.taken

        async def release(self) -> None:
            pass


@dataclass
class Us:
    """Our side."""

    log: MemoryLog
    desk: Desk
    leases: Leases
    joined: list[Handshake] = field(default_factory=list)
    """Whose end the runner told."""
    ids: Any = field(default_factory=lambda: itertools.count(1))

    def start(self, kind: str, room_id: str, *servers: str, **content: Any) -> str:
        """A user of ours asks for something; the handshake's id."""
        handshake_id = f"h{next(self.ids)}"
        self.log.started[handshake_id] = Handshake(handshake_id, room_id, kind, USER, tuple(servers), content)
        return handshake_id

    async def ended(self, handshake_id: str, runner: Runner | None = None) -> str:
        """Run until a handshake has ended; how."""
        working = asyncio.create_task((runner or self.runner()).run())
        try:
            async with asyncio.timeout(PATIENCE_S):
                while (found := await self.log.outcome(self.log.started[handshake_id])) is None:
                    assert not working.done(), working.exception()
                    await asyncio.sleep(0.01)
            return found
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    def runner(self, **more: Any) -> Runner:
        """Another runner, as another process would have."""

        async def joined(handshake: Handshake) -> None:
            self.joined.append(handshake)

        return Runner(self.desk, self.log, self.leases.of, joined, **more)

    async def failure(self, handshake_id: str) -> HandshakeFailed:
        """Run a handshake that must fail; the fact that says so."""
        assert await self.ended(handshake_id) == "failed"
        [fact] = [fact for fact in self.log.all(HandshakeFailed) if fact.handshake_id == handshake_id]
        return fact


Scenario = Callable[[Us, RoomPeer, RoomPeer], Awaitable[None]]


def play(authority: Authority, folder: Path, scenario: Scenario) -> None:
    """Run a scenario with us and two servers that have rooms."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            peer = await stack.enter_async_context(RoomPeer(authority, folder / "1"))
            other = await stack.enter_async_context(RoomPeer(authority, folder / "2"))
            client = await stack.enter_async_context(a_client(authority, patient=True, key=KEY, now_ms=now_ms))
            keyring = open_keyring(client, US, [KEY], MemoryKeyStore(), [], now_ms, lambda: 0.5)
            threads = stack.enter_context(ThreadPoolExecutor(2))
            log = MemoryLog()
            ids = itertools.count(1)
            desk = Desk(
                US,
                KEY,
                client,
                PduVerifier(keyring, threads),
                threads,
                log,
                now_ms,
                lambda: f"s{next(ids)}",
                log.known_events,
            )
            await scenario(Us(log, desk, Leases()), peer, other)
            await keyring.close()

    # Nothing is worth the runner's waiting for here.
    with mock.patch.multiple(runner, IDLE_S=0.05, PAUSE_S=0.01, SETTLED_S=0.01):
        asyncio.run(run())


__all__ = ["US", "USER", "Leases", "MemoryLog", "Scenario", "Us", "play"]
