"""EDUs of our users: who types, what was read and who is online, tailed from the log and sent while it is new.

Best effort: what was said while nobody sent, or to a server that fails, is not sent later. Only to servers that are in
the room now, only about users of ours, and of receipts only the public ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from annals.database.errors import DatabaseError
from annals.database.pool import Database
from annals.egress.audiences import Audiences
from annals.egress.presence import PresenceOut, presence_edu, servers_of
from annals.egress.reading import server_of
from annals.eventlog.api import Log, Record
from annals.eventlog.tail_thread import TailThread
from annals.matrix.presence import Presence
from annals.schemas.codec import decode
from annals.schemas.errors import Undecodable
from annals.schemas.facts.ephemeral import PresenceSet, TypingSet
from annals.schemas.facts.receipts import ReceiptSet

_logger = structlog.get_logger(__name__)

EPHEMERAL, RECEIPTS = "ephemeral", "receipts"
#: Of a burst, the rest is dropped: it is of no use later.
_WAITING_MAX = 2_000

Said = TypingSet | ReceiptSet


class Sends(Protocol):
    """Who takes EDUs (annals.egress.sender)."""

    def send_edu(self, servers: Iterable[str], key: tuple[str, ...], edu: dict[str, Any]) -> frozenset[str]:
        """To these servers, in place of an earlier one of the key; those of them that it is going to be sent to."""
        ...


@dataclass(frozen=True, slots=True)
class _Typing:
    """Until when somebody types, and which servers were told."""

    until_ms: int
    servers: frozenset[str]


@dataclass(slots=True)
class Edus:
    """Follows both topics from their ends. `us` is our server name."""

    log: Log
    database: Database
    sender: Sends
    us: str
    now_ms: Callable[[], int]
    _audiences: Audiences = field(init=False)
    _reader: TailThread | None = None
    _waiting: list[Said] = field(default_factory=list)
    _present: dict[str, PresenceSet] = field(default_factory=dict)
    _presence: PresenceOut = field(default_factory=PresenceOut)
    _came: asyncio.Event = field(default_factory=asyncio.Event)
    _typing: dict[tuple[str, str], _Typing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._audiences = Audiences(self.us)

    async def start(self) -> None:
        """Listen: nothing that is said from now on is missed."""
        loop = asyncio.get_running_loop()
        self._reader = await asyncio.to_thread(_followed, self.log, loop, self._take)

    async def close(self) -> None:
        """Listen no more."""
        if self._reader is not None:
            await asyncio.to_thread(self._reader.close)

    async def run(self) -> None:
        """For ever, until cancelled."""
        while True:
            await self._wait()
            said, self._waiting = self._waiting, []
            self._end_typing()
            await self._send(said)
            present, self._present = self._present, {}
            await self._send_presence({user_id: _presence(fact) for user_id, fact in present.items()})

    async def _wait(self) -> None:
        """Until something was said, or somebody has not typed for long enough."""
        next_ms = min((typing.until_ms for typing in self._typing.values()), default=None)
        wait_s = None if next_ms is None else max(0.0, (next_ms - self.now_ms()) / 1000)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._came.wait()
        self._came.clear()

    def _take(self, records: list[Record]) -> None:
        for record in records:
            try:
                fact = decode(record.value) if record.value is not None else None
            except Undecodable:
                continue
            if isinstance(fact, TypingSet | ReceiptSet) and self._is_public(fact):
                self._waiting.append(fact)
            elif isinstance(fact, PresenceSet) and server_of(fact.user_id) == self.us:
                self._present[fact.user_id] = fact
        del self._waiting[:-_WAITING_MAX]
        self._came.set()

    def _is_public(self, fact: Said) -> bool:
        if server_of(fact.user_id) != self.us:
            return False
        return isinstance(fact, TypingSet) or fact.receipt_type == "m.read"

    def _end_typing(self) -> None:
        """Who has not said again that they type: other servers need not find out by themselves."""
        now_ms = self.now_ms()
        for key, typing in list(self._typing.items()):
            if typing.until_ms <= now_ms:
                del self._typing[key]
                edu = _typing_edu(*key, types=False)
                self.sender.send_edu(typing.servers, ("m.typing", *key), edu)

    async def _send(self, said: list[Said]) -> None:
        if not said:
            return
        rooms = {fact.room_id for fact in said}
        try:
            servers = await self.database.read(lambda snapshot: self._audiences.now(snapshot, rooms))
        except DatabaseError as error:
            _logger.warning("edus_not_sent", error=repr(error))
            self._audiences.forget()
            return
        for fact in said:
            edu = self._typing_of(fact, servers[fact.room_id]) if isinstance(fact, TypingSet) else _receipt_edu(fact)
            self.sender.send_edu(servers[fact.room_id], _key(fact), edu)

    async def _send_presence(self, said: dict[str, Presence]) -> None:
        if not said:
            return
        try:
            servers = await self.database.read(lambda snapshot: servers_of(snapshot, self._audiences, list(said)))
        except DatabaseError as error:
            _logger.warning("edus_not_sent", error=repr(error))
            self._audiences.forget()
            return
        now_ms = self.now_ms()
        for user_id, presence in said.items():
            unaware = self._presence.unaware(user_id, presence, servers.get(user_id, frozenset()), now_ms)
            edu = presence_edu(user_id, presence, now_ms)
            told = self.sender.send_edu(unaware, ("m.presence", user_id), edu)
            self._presence.told(user_id, presence, told, now_ms)

    def _typing_of(self, fact: TypingSet, servers: frozenset[str]) -> dict[str, Any]:
        key, types = (fact.room_id, fact.user_id), fact.until_ms > self.now_ms()
        self._typing.pop(key, None)
        if types and servers:
            self._typing[key] = _Typing(fact.until_ms, servers)
        return _typing_edu(*key, types=types)


def _followed(log: Log, loop: asyncio.AbstractEventLoop, take: Callable[[list[Record]], None]) -> TailThread:
    topics = (EPHEMERAL, RECEIPTS)
    ends = {(topic, partition): end for topic in topics for partition, end in enumerate(log.ends(topic))}
    return TailThread(log, ends, loop, take, "edus")


def _presence(fact: PresenceSet) -> Presence:
    return Presence.recorded(fact.presence, fact.status_msg, fact.last_active_ms, fact.currently_active)


def _key(fact: Said) -> tuple[str, ...]:
    if isinstance(fact, TypingSet):
        return "m.typing", fact.room_id, fact.user_id
    return "m.receipt", fact.room_id, fact.user_id, fact.thread_id or ""


def _typing_edu(room_id: str, user_id: str, *, types: bool) -> dict[str, Any]:
    return {"edu_type": "m.typing", "content": {"room_id": room_id, "user_id": user_id, "typing": types}}


def _receipt_edu(fact: ReceiptSet) -> dict[str, Any]:
    data: dict[str, Any] = {"ts": fact.ts_ms}
    if fact.thread_id is not None:
        data["thread_id"] = fact.thread_id
    receipt = {"data": data, "event_ids": [fact.event_id]}
    return {"edu_type": "m.receipt", "content": {fact.room_id: {"m.read": {fact.user_id: receipt}}}}
