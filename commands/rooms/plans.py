"""What a command wants of a room, decided against the room's view (pure).

A plan is a function of the view, so that it is right at the moment at which the builder comes to it: a user who has
just joined joins nothing more. It raises `Refused` where the room forbids it, `Lacking` where it must learn first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from annals.matrix.events import Event
from annals.rooms.heads import Intent
from annals.rooms.view import RoomView


@dataclass(frozen=True, slots=True)
class ReadyMade:
    """An event that was built before (the create event, whose hash the room is named after)."""

    event: Event
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Send:
    """Events to send, in this order."""

    wishes: tuple[Intent | ReadyMade, ...]


@dataclass(frozen=True, slots=True)
class Already:
    """Nothing is to be done: what was wanted is so."""


Plan = Callable[[RoomView], Send | Already]


@dataclass(frozen=True, slots=True)
class Sent:
    """The events that a command made, or found made by an earlier try; all accepted."""

    event_ids: tuple[str, ...]
