"""Waking those who wait in /sync: the notifier says only that there is something, never what.

Everybody who wakes reads again, from a snapshot of their own. No move is lost between a read and the wait after it: who
waits says which move was the last before the read (`seen`), and what came since then wakes them at once.

    seen = notifier.seen ─▶ read a snapshot ─▶ nothing new ─▶ wait(seen, …) ─▶ read again
                                  └── a move in between ──────────▲ returns at once
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

MOVES_KEPT = 2_000


@dataclass(frozen=True, slots=True)
class Move:
    """What one notice named. `everything`: any room and user."""

    number: int
    rooms: Collection[str]
    users: Collection[str]
    everything: bool = False


@dataclass(eq=False, slots=True)
class _Waiter:
    user_id: str
    rooms: frozenset[str]
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def concerned_by(self, move: Move) -> bool:
        if move.everything or self.user_id in move.users:
            return True
        return any(room_id in self.rooms for room_id in move.rooms)


class Notifier:
    """Waiters by room and user; used from the event loop only."""

    def __init__(self) -> None:
        self.seen = 0
        self._moves: deque[Move] = deque(maxlen=MOVES_KEPT)
        self._by_room: dict[str, set[_Waiter]] = {}
        self._by_user: dict[str, set[_Waiter]] = {}

    @property
    def anybody_waits(self) -> bool:
        """Whether a move would wake anybody."""
        return bool(self._by_user)

    def waiting(self, room_id: str) -> int:
        """How many wait for something in a room."""
        return len(self._by_room.get(room_id, ()))

    def moved(self, rooms: Collection[str], users: Collection[str], everything: bool = False) -> None:
        """Something of these rooms and users changed: wake who waits for them."""
        self.seen += 1
        self._moves.append(Move(self.seen, rooms, users, everything))
        if everything:
            woken = {waiter for waiters in self._by_user.values() for waiter in waiters}
        else:
            woken = {waiter for room_id in rooms for waiter in self._by_room.get(room_id, ())}
            woken |= {waiter for user_id in users for waiter in self._by_user.get(user_id, ())}
        for waiter in woken:
            waiter.woken.set()

    async def wait(self, user_id: str, rooms: frozenset[str], seen: int, timeout_s: float) -> bool:
        """Wait until something moved after `seen` that concerns the user; False when the time ran out."""
        waiter = _Waiter(user_id, rooms)
        if self._missed(waiter, seen):
            return True
        self._add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.woken.wait()
            return True
        except TimeoutError:
            return False
        finally:
            self._remove(waiter)

    def _missed(self, waiter: _Waiter, seen: int) -> bool:
        if not self._moves or seen == self.seen:
            return False
        if self._moves[0].number > seen + 1:
            return True
        return any(move.number > seen and waiter.concerned_by(move) for move in self._moves)

    def _add(self, waiter: _Waiter) -> None:
        self._by_user.setdefault(waiter.user_id, set()).add(waiter)
        for room_id in waiter.rooms:
            self._by_room.setdefault(room_id, set()).add(waiter)

    def _remove(self, waiter: _Waiter) -> None:
        for index, names in ((self._by_user, (waiter.user_id,)), (self._by_room, waiter.rooms)):
            for name in names:
                waiters = index[name]
                waiters.discard(waiter)
                if not waiters:
                    del index[name]
