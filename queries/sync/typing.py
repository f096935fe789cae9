"""Who types: tailed from topic `ephemeral`, kept in memory, gone by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from annals.queries.sync.advice import EphemeralCount
from annals.schemas.facts.ephemeral import TypingSet

#: Beyond so many, rooms in which nobody types any more are forgotten.
ROOMS_MAX = 10_000


@dataclass(slots=True)
class RoomTyping:
    """Who types in one room. `offset`: what the count became with the latest change; tokens hold such."""

    until_ms: dict[str, int] = field(default_factory=dict)
    offset: int = 0


class Typing:
    """The typing users of all rooms; used from the event loop only."""

    def __init__(self, clock: Callable[[], int], count: EphemeralCount) -> None:
        self._clock, self._count = clock, count
        self._rooms: dict[str, RoomTyping] = {}

    def apply(self, fact: TypingSet, offset: int) -> None:
        """A record of the topic; what is older than its own time says nothing."""
        number = self._count.at(offset)
        self._forget_idle()
        room = self._rooms.setdefault(fact.room_id, RoomTyping())
        known = fact.user_id in room.until_ms
        if fact.until_ms > self._clock():
            room.until_ms[fact.user_id] = fact.until_ms
            changed = not known
        else:
            changed = room.until_ms.pop(fact.user_id, None) is not None
        if changed:
            room.offset = number

    def expire(self) -> list[str]:
        """Forget who has not typed for long enough; the rooms that this changed."""
        now_ms = self._clock()
        changed = []
        for room_id, room in self._rooms.items():
            gone = [user_id for user_id, until_ms in room.until_ms.items() if until_ms <= now_ms]
            if gone:
                for user_id in gone:
                    del room.until_ms[user_id]
                # Nothing was appended, but tokens must tell this state from the one before.
                room.offset = self._count.bump()
                changed.append(room_id)
        return changed

    def _forget_idle(self) -> None:
        if len(self._rooms) > ROOMS_MAX:
            self._rooms = {room_id: room for room_id, room in self._rooms.items() if room.until_ms}

    def changed_since(self, offset: int | None) -> Mapping[str, list[str]]:
        """The typing users of each room where that changed since a token; of each where anybody types, without one."""
        if offset is None:
            return {room_id: sorted(room.until_ms) for room_id, room in self._rooms.items() if room.until_ms}
        since = self._count.since(offset)
        return {room_id: sorted(room.until_ms) for room_id, room in self._rooms.items() if room.offset > since}
