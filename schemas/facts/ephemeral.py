"""Facts of topic `ephemeral`: kept for minutes, never projected, tailed by whoever shows them."""

from __future__ import annotations

from dataclasses import dataclass

from annals.schemas.facts.envelope import Fact, Sealable


@dataclass(frozen=True, slots=True)
class TypingSet(Fact):
    """A user types in a room until `until_ms`, or has stopped (`until_ms` 0)."""

    room_id: str
    user_id: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class PresenceSet(Fact):
    """A user's presence (online, unavailable, offline), as `reporter` sees it: a process of ours that knows the user's
    devices, or another server. Believed until `until_ms`, then the user is offline; `last_active_ms` None: not known.
    Only whoever reported last may take back what was reported, others may add to it. `status_msg` is UTF-8."""

    user_id: str
    presence: str
    status_msg: Sealable | None
    last_active_ms: int | None
    currently_active: bool
    until_ms: int
    reporter: str
