"""Facts of topic `directory`: what must be unique over users and rooms. Keyed by kind and name."""

from __future__ import annotations

from dataclasses import dataclass

from annals.schemas.facts.envelope import Fact


@dataclass(frozen=True, slots=True)
class AliasClaimed(Fact):
    """Somebody asks for a room alias. The first claim of a free alias wins, by offset."""

    alias: str
    room_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class AliasReleased(Fact):
    """The alias is free again, if it belonged to this room."""

    alias: str
    room_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class AliasLapsed(Fact):
    """The room for which the alias was claimed never came: the claim falls."""

    alias: str
    room_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class RoomPublished(Fact):
    """A room is listed in the room directory (`visibility` "public") or taken out of it ("private")."""

    room_id: str
    user_id: str
    visibility: str
