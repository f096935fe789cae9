"""Presence of our own users: what their devices do here, and what the log is told of it.

A device is there while it polls /sync, and for a while after that; a user is as much there as the device that is there
most. Only a change is logged: polling on says nothing. Who stays is said again every few minutes, so that a process
that ends keeps nobody online. Of several processes, each adds to what the others say of a user, and takes back only
what it said itself; whoever still has a device of the user then says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from annals.matrix.presence import OFFLINE, ONLINE, STATUS_MSG_MAX, UNAVAILABLE, Presence, rank
from annals.projectors.positions.appending import Appender
from annals.projectors.positions.errors import NOT_NOW
from annals.schemas.facts.ephemeral import PresenceSet

_logger = structlog.get_logger(__name__)

#: A device that polls no more is gone after this.
OFFLINE_AFTER_MS = 30_000
#: Who said that they are online, and did nothing since, is unavailable after this. Polling as "online" is doing.
IDLE_AFTER_MS = 300_000
#: "currently_active": did something within this.
ACTIVE_MS = 60_000
#: Who stays is said again so often, and believed for so long.
AGAIN_MS, BELIEVED_MS = 240_000, 360_000
_SWEEP_S = 5.0
_RETRY_S = 1.0
#: The event loop has other work after so many users.
_SLICE = 200


class Heard(Protocol):
    """What this process has heard of everybody's presence (queries have it); `apply` takes what was just logged."""

    def of(self, user_id: str) -> Presence: ...

    def reporter(self, user_id: str) -> str | None: ...

    def apply(self, fact: PresenceSet, offset: int) -> None: ...


@dataclass(slots=True)
class _Device:
    """`polled`: its state is what it polls with, not what it once set. `polls`: requests that wait now."""

    state: str
    seen_ms: int
    active_ms: int
    polled: bool = False
    polls: int = 0

    def state_at(self, now_ms: int) -> str:
        if self.is_gone(now_ms):
            return OFFLINE
        is_idle = not self.polled and now_ms - self.active_ms >= IDLE_AFTER_MS
        return UNAVAILABLE if self.state == ONLINE and is_idle else self.state

    def is_gone(self, now_ms: int) -> bool:
        return not self.polls and now_ms - self.seen_ms >= OFFLINE_AFTER_MS


@dataclass(slots=True)
class _User:
    devices: dict[str, _Device] = field(default_factory=dict)
    said_ms: int = 0


class PresenceDesk:
    """One a process, on one event loop. `process`: a name that no other one is given. `heard` None: switched off."""

    def __init__(self, appender: Appender, heard: Heard | None, process: str) -> None:
        self._appender, self._heard, self._process = appender, heard, process
        self._users: dict[str, _User] = {}
        self._stirred: set[str] = set()
        self._came = asyncio.Event()

    @contextmanager
    def polling(self, user_id: str, device_id: str | None, state: str) -> Iterator[None]:
        """A /sync with `set_presence=state` is under way."""
        if self._heard is None or (device := self._polling_device(user_id, device_id or "", state)) is None:
            yield
            return
        device.polls += 1
        try:
            yield
        finally:
            device.polls -= 1
            device.seen_ms = self._appender.clock()

    async def set(self, user_id: str, device_id: str | None, state: str, status_msg: str | None) -> None:
        """The user says so. Raises NOT_NOW."""
        if self._heard is None:
            return
        now_ms, user = self._appender.clock(), self._users.setdefault(user_id, _User())
        device = user.devices.setdefault(device_id or "", _Device(state, now_ms, now_ms))
        device.state, device.polled, device.seen_ms, device.active_ms = state, False, now_ms, now_ms
        combined = max((one.state_at(now_ms) for one in user.devices.values()), key=rank)
        said = Presence(combined, status_msg[:STATUS_MSG_MAX] if status_msg else None, now_ms, combined == ONLINE)
        await self._say([self._fact(user_id, said)])

    def stir(self, user_ids: Iterable[str]) -> None:
        """Others have said something of these users: see whether it is so."""
        if mine := self._users.keys() & set(user_ids):
            self._stirred |= mine
            self._came.set()

    async def run(self) -> None:
        """Log what changes, until cancelled."""
        loop = asyncio.get_running_loop()
        sweep_s = loop.time() + _SWEEP_S
        while True:
            try:
                async with asyncio.timeout_at(sweep_s):
                    await self._came.wait()
            except TimeoutError:
                sweep_s = loop.time() + _SWEEP_S
                self._stirred |= self._users.keys()
            self._came.clear()
            stirred, self._stirred = self._stirred, set()
            try:
                await self.look(stirred)
            except NOT_NOW as error:
                _logger.warning("presence_not_said", error=repr(error))
                self._stirred |= stirred
                await asyncio.sleep(_RETRY_S)

    async def look(self, user_ids: Iterable[str]) -> None:
        """Say what is to be said of these users. Raises NOT_NOW."""
        facts: list[PresenceSet] = []
        for number, user_id in enumerate(user_ids, 1):
            if (said := self._to_say(user_id)) is not None:
                facts.append(self._fact(user_id, said))
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        if facts:
            await self._say(facts)

    def _polling_device(self, user_id: str, device_id: str, state: str) -> _Device | None:
        now_ms, user = self._appender.clock(), self._users.get(user_id)
        if state == OFFLINE:
            # "the client is not marked as being online when it uses this API": what it has set itself stays.
            device = None if user is None else user.devices.get(device_id)
            return None if device is None or device.polled else device
        user = self._users.setdefault(user_id, _User())
        device = user.devices.setdefault(device_id, _Device(state, now_ms, now_ms))
        device.state, device.polled, device.seen_ms = state, True, now_ms
        if state == ONLINE:
            device.active_ms = now_ms
        assert self._heard is not None
        if self._heard.of(user_id).presence != state:
            self.stir((user_id,))
        return device

    def _to_say(self, user_id: str) -> Presence | None:
        """What is true of the user and not said; who has no device here any more is forgotten."""
        now_ms, user = self._appender.clock(), self._users.get(user_id)
        if user is None or self._heard is None:
            return None
        state = max((device.state_at(now_ms) for device in user.devices.values()), key=rank, default=OFFLINE)
        active = [device.active_ms for device in user.devices.values()]
        user.devices = {name: device for name, device in user.devices.items() if not device.is_gone(now_ms)}
        if not user.devices:
            del self._users[user_id]
        known, mine = self._heard.of(user_id), self._heard.reporter(user_id) == self._process
        adds, takes_back = rank(state) > rank(known.presence), mine and rank(state) < rank(known.presence)
        stays = mine and state != OFFLINE and now_ms - user.said_ms >= AGAIN_MS
        if not (adds or takes_back or stays):
            return None
        active_ms = max([*active, known.last_active_ms or 0])
        is_active = state == ONLINE and (now_ms - active_ms < ACTIVE_MS or self._polls_as_online(user))
        return Presence(state, known.status_msg, active_ms, is_active)

    def _polls_as_online(self, user: _User) -> bool:
        return any(device.polls and device.polled and device.state == ONLINE for device in user.devices.values())

    def _fact(self, user_id: str, said: Presence) -> PresenceSet:
        envelope = self._appender.envelope()
        until_ms = 0 if said.presence == OFFLINE else envelope.recorded_at_ms + BELIEVED_MS
        status = None if said.status_msg is None else said.status_msg.encode("utf-8", "replace")
        return PresenceSet(
            envelope,
            user_id,
            said.presence,
            status,
            said.last_active_ms,
            said.currently_active,
            until_ms,
            self._process,
        )

    async def _say(self, facts: list[PresenceSet]) -> None:
        submitted = await self._appender.submit(facts)
        assert self._heard is not None
        for index, fact in enumerate(facts):
            if (user := self._users.get(fact.user_id)) is not None:
                user.said_ms = fact.envelope.recorded_at_ms
            self._heard.apply(fact, submitted.offset(index))
