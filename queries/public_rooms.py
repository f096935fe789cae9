"""The published rooms of this server, largest first, page by page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.queries.errors import BadPlace
from annals.queries.room_summaries import RoomSummary, room_summaries

LIMIT_MAX = 500
_TOKEN = re.compile(r"([np])(\d{1,10})_(.{1,255})", re.DOTALL)

_PUBLISHED_SQL = """
    SELECT p.room_id, members.joined FROM published_rooms p
    CROSS JOIN LATERAL (
        SELECT count(*) AS joined FROM current_state cs
        WHERE cs.room_id = p.room_id AND cs.type = 'm.room.member' AND cs.membership = 'join') AS members
    WHERE EXISTS (SELECT 1 FROM local_current_membership m WHERE m.room_id = p.room_id AND m.membership = 'join')
    ORDER BY members.joined DESC, p.room_id
"""


@dataclass(frozen=True, slots=True)
class DirectoryWanted:
    """What part of the directory is asked for. `room_types`: None among them stands for rooms without a type."""

    limit: int | None = None
    since: str | None = None
    search: str | None = None
    room_types: frozenset[str | None] | None = None

    @property
    def takes_all(self) -> bool:
        """Whether nothing is left out."""
        return not self.search and self.room_types is None

    def takes(self, room: RoomSummary) -> bool:
        """Whether a room is among what is asked for."""
        if self.room_types is not None and room.text("m.room.create", "type") not in self.room_types:
            return False
        if not self.search:
            return True
        named = (("m.room.name", "name"), ("m.room.topic", "topic"), ("m.room.canonical_alias", "alias"))
        return any(self.search.lower() in (room.text(*of) or "").lower() for of in named)


class PublicRooms:
    """Queries on the directory."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: DirectoryWanted) -> dict[str, Any]:
        """A page. Raises BadPlace for a `since` that is no token of ours."""
        return await self._database.read(lambda snapshot: _page(snapshot, wanted))


def _page(snapshot: Snapshot, wanted: DirectoryWanted) -> dict[str, Any]:
    # (-joined, room id): the order of the directory.
    places = [(-joined, restore(room_id)) for room_id, joined in snapshot.rows(_PUBLISHED_SQL)]
    places.sort()
    found: dict[str, RoomSummary] = {}
    if not wanted.takes_all:
        found = room_summaries(snapshot, [room_id for _, room_id in places])
        places = [place for place in places if place[1] in found and wanted.takes(found[place[1]])]
    limit = min(wanted.limit or LIMIT_MAX, LIMIT_MAX)
    first, last = _bounds(places, wanted.since, limit)
    page = places[first:last]
    if wanted.takes_all:
        found = room_summaries(snapshot, [room_id for _, room_id in page])
    answer: dict[str, Any] = {
        "chunk": [found[room_id].published() for _, room_id in page if room_id in found],
        "total_room_count_estimate": len(places),
    }
    if page and last < len(places):
        answer["next_batch"] = _token("n", page[-1])
    if page and first > 0:
        answer["prev_batch"] = _token("p", page[0])
    return answer


def _bounds(places: list[tuple[int, str]], since: str | None, limit: int) -> tuple[int, int]:
    if since is None:
        return 0, min(limit, len(places))
    found = _TOKEN.fullmatch(since)
    if found is None:
        raise BadPlace("not a token of the directory")
    mark = -int(found[2]), found[3]
    if found[1] == "n":
        first = _count(places, lambda place: place <= mark)
        return first, min(first + limit, len(places))
    last = _count(places, lambda place: place < mark)
    return max(0, last - limit), last


def _count(places: list[tuple[int, str]], before: Callable[[tuple[int, str]], bool]) -> int:
    return sum(1 for place in places if before(place))


def _token(direction: str, place: tuple[int, str]) -> str:
    return f"{direction}{-place[0]}_{place[1]}"
