"""Walking a space for a user, depth first: rooms that we are in from our tables, others as other servers tell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from annals.queries.errors import BadPlace, NoAccess
from annals.queries.hierarchy import SpaceRoom, Spaces, is_accessible, via_of
from annals.queries.remote_rooms import RemoteRooms

LIMIT_DEFAULT, LIMIT_MAX = 50, 50
#: Rooms that one walk looks at, and questions that it asks of other servers.
VISITED_MAX, ASKED_MAX = 1_000, 20
_TOKEN = re.compile(r"h(\d{1,6})_(\d{0,9})_([01])", re.ASCII)


@dataclass(frozen=True, slots=True)
class WalkWanted:
    """Which part of a hierarchy is asked for; `max_depth` None: all of it."""

    limit: int = LIMIT_DEFAULT
    max_depth: int | None = None
    suggested_only: bool = False
    from_token: str | None = None

    def skipped(self) -> int:
        """How many rooms were given before. Raises BadPlace."""
        if self.from_token is None:
            return 0
        found = _TOKEN.fullmatch(self.from_token)
        # "If specified, `max_depth` and `suggested_only` cannot be changed from the first request."
        if found is None or self.token(int(found[1])) != self.from_token:
            raise BadPlace("not a token of this hierarchy")
        return int(found[1])

    def token(self, given: int) -> str:
        """Where the next page begins, once so many rooms were given."""
        return f"h{given}_{'' if self.max_depth is None else self.max_depth}_{int(self.suggested_only)}"


@dataclass(slots=True)
class _Walk:
    user_id: str
    wanted: WalkWanted
    todo: list[tuple[str, Sequence[str], int]]
    seen: set[str] = field(default_factory=set)
    known: dict[str, SpaceRoom] = field(default_factory=dict)
    told: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    asked: int = 0

    def next(self) -> tuple[str, Sequence[str], int] | None:
        """The next room that was not looked at."""
        while self.todo:
            found = self.todo.pop()
            if found[0] not in self.seen and found[0] not in self.hidden:
                self.seen.add(found[0])
                return found
        return None


class SpaceWalks:
    """Hierarchies for users."""

    def __init__(self, spaces: Spaces, remote: RemoteRooms) -> None:
        self._spaces, self._remote = spaces, remote

    async def page(self, user_id: str, room_id: str, wanted: WalkWanted) -> dict[str, Any]:
        """A page of the hierarchy below a room. Raises NoAccess where the user may not know of the room, BadPlace."""
        skipped, given = wanted.skipped(), 0
        rooms: list[dict[str, Any]] = []
        walk = _Walk(user_id, wanted, [(room_id, (), 0)])
        walk.known.update(await self._spaces.for_user(user_id, [room_id]))
        while len(rooms) < min(wanted.limit, LIMIT_MAX) and len(walk.seen) < VISITED_MAX:
            at = walk.next()
            if at is None:
                return {"rooms": rooms}
            found = await self._room(walk, at[0], at[1])
            if found is None or not found.accessible:
                if at[0] == room_id:
                    raise NoAccess(room_id)
                continue
            given += 1
            if given > skipped:
                rooms.append(found.shown())
            await self._go_down(walk, found, at[2])
        more = any(left not in walk.seen for left, _, _ in walk.todo) and len(walk.seen) < VISITED_MAX
        return {"rooms": rooms, "next_batch": wanted.token(given)} if more else {"rooms": rooms}

    async def _go_down(self, walk: _Walk, room: SpaceRoom, depth: int) -> None:
        if walk.wanted.max_depth is not None and depth >= walk.wanted.max_depth:
            return
        children = [
            (child["state_key"], via_of(child), depth + 1)
            for child in room.children
            if not walk.wanted.suggested_only or child["content"].get("suggested") is True
        ][:VISITED_MAX]
        unknown = [child for child, _, _ in children if child not in walk.known and child not in walk.seen]
        if unknown:
            walk.known.update(await self._spaces.for_user(walk.user_id, unknown))
        walk.todo.extend(reversed(children))

    async def _room(self, walk: _Walk, room_id: str, via: Sequence[str]) -> SpaceRoom | None:
        if room_id in walk.known:
            return walk.known[room_id]
        told = walk.told.get(room_id)
        if told is not None and told.get("room_type") != "m.space":
            return await self._as_told(walk, told, ())
        if walk.asked >= ASKED_MAX:
            return None
        walk.asked += 1
        found = await self._remote.space(room_id, via, walk.wanted.suggested_only)
        if found is None:
            return None
        walk.told.update(found.summaries)
        walk.hidden.update(found.inaccessible)
        return await self._as_told(walk, found.summary, found.children)

    async def _as_told(
        self, walk: _Walk, summary: Mapping[str, Any], children: Sequence[Mapping[str, Any]]
    ) -> SpaceRoom:
        allowed = summary.get("allowed_room_ids", [])
        member_of = await self._spaces.memberships(walk.user_id, [summary["room_id"], *allowed])
        return SpaceRoom(summary, children, is_accessible(summary, member_of))
