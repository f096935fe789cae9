"""The fold of the directory group: the first claim of a free alias wins, by offset."""

from __future__ import annotations

from collections.abc import Iterable

from annals.projectors.directory.tables import ALIASES, PUBLISHED_ROOMS
from annals.projectors.folding import At, Overlay, Touch, UnknownFact
from annals.projectors.moved import Moved
from annals.schemas.facts.directory import AliasClaimed, AliasLapsed, AliasReleased, RoomPublished
from annals.schemas.facts.envelope import Fact


class DirectoryProjection:
    """Tables of aliases and published rooms."""

    def touches(self, fact: Fact) -> Iterable[Touch]:
        """See Projection."""
        if isinstance(fact, AliasClaimed | AliasReleased | AliasLapsed):
            yield Touch(ALIASES, (fact.alias,))

    def fold(self, fact: Fact, at: At, rows: Overlay) -> None:
        """See Projection."""
        match fact:
            case AliasClaimed():
                _claim(fact, at, rows)
            case AliasReleased() | AliasLapsed():
                owner = rows.get(ALIASES, fact.alias)
                if owner is not None and owner["room_id"] == fact.room_id:
                    rows.delete(ALIASES, fact.alias)
            case RoomPublished(room_id=room_id, user_id=user_id, visibility="public"):
                rows.put(PUBLISHED_ROOMS, {"room_id": room_id, "published_by": user_id, **at.provenance()})
            case RoomPublished(room_id=room_id):
                rows.delete(PUBLISHED_ROOMS, room_id)
            case _:
                raise UnknownFact(type(fact).__name__)

    def touches_of_key(self, key: bytes) -> Iterable[Touch]:
        """None."""
        return ()

    def tombstone(self, key: bytes, at: At, rows: Overlay) -> None:
        """The topic is kept whole: a filler."""

    def moved(self, fact: Fact) -> Moved:
        """Nobody waits for the directory but by position."""
        return Moved()


def _claim(fact: AliasClaimed, at: At, rows: Overlay) -> None:
    if rows.get(ALIASES, fact.alias) is not None:
        return
    claim = {"alias": fact.alias, "room_id": fact.room_id, "creator": fact.user_id}
    rows.put(ALIASES, {**claim, "idempotency_key": fact.envelope.idempotency_key, **at.provenance()})
