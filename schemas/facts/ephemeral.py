"""Facts of topic `ephemeral`: kept for minutes, never projected, tailed by whoever shows them."""

from __future__ import annotations

from dataclasses import dataclass

from annals.schemas.facts.envelope import Fact


@dataclass(frozen=True, slots=True)
class TypingSet(Fact):
    """A user types in a room until `until_ms`, or has stopped (`until_ms` 0)."""

    room_id: str
    user_id: str
    until_ms: int
