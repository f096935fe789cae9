"""What became of events that were logged, and where the room stands now: one read for a whole group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from annals.rooms.needs import Loaded, Needs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided about an event; where it repeats the key of an earlier one, about that (`event_id`)."""

    verdict: str
    rule: str | None = None
    reason: str | None = None
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes by event id (none for a fact that waits in a halted room), and the room's head."""

    events: Mapping[str, Outcome]
    extremities: frozenset[str]
    halted: bool


class RoomTables(Protocol):
    """What the builder reads (projectors.rooms.read has it)."""

    async def load(self, needs: Needs) -> Loaded:
        """The answers to the needs of room views."""
        ...

    async def outcomes(self, room_id: str, event_ids: list[str]) -> Outcomes:
        """What was decided about these events, and the head of the room, as of one moment."""
        ...
