"""What other servers tell of rooms that we are not in: their directory, and spaces.

Everything in an answer is somebody's claim: it is shown to whom asked, in the shape that the specification has, and
believed in nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annals.federation.client import FederationClient, path_of
from annals.federation.errors import BadAnswer, FederationError
from annals.queries.hierarchy import child_order, via_of

#: Servers that are asked about one room.
VIA_MAX = 3
TIMEOUT_S = 10.0
_BYTES_MAX = 4 << 20
# "Responses to this endpoint should be cached for a period of time."
_KEPT_MS, _KEPT_MAX = 60_000, 500
_BASE = ("federation", "v1")


@dataclass(frozen=True, slots=True)
class RemoteSpace:
    """A room elsewhere, as a server told us. `summaries`: of its children, by room id."""

    summary: Mapping[str, Any]
    children: Sequence[Mapping[str, Any]]
    summaries: Mapping[str, Mapping[str, Any]]
    inaccessible: frozenset[str]


class RemoteRooms:
    """Asks other servers."""

    def __init__(self, client: FederationClient, server_name: str, now_ms: Callable[[], int]) -> None:
        self._client, self._server_name, self._now_ms = client, server_name, now_ms
        self._kept: OrderedDict[tuple[str, bool], tuple[int, RemoteSpace]] = OrderedDict()

    async def public_rooms(self, server: str, content: dict[str, Any]) -> dict[str, Any]:
        """A page of another server's directory. Raises FederationError."""
        path = path_of(*_BASE, "publicRooms")
        found = await self._client.post(server, path, content, timeout_s=TIMEOUT_S, bytes_max=_BYTES_MAX)
        if not isinstance(found, dict) or not isinstance(found.get("chunk"), list):
            raise BadAnswer(server, "no chunk of rooms")
        rooms = [room for room in found["chunk"] if isinstance(room, dict) and isinstance(room.get("room_id"), str)]
        tokens = {name: found[name] for name in ("next_batch", "prev_batch") if isinstance(found.get(name), str)}
        total = found.get("total_room_count_estimate")
        return {"chunk": rooms, **tokens, **({"total_room_count_estimate": total} if type(total) is int else {})}

    async def space(self, room_id: str, via: Sequence[str], suggested_only: bool) -> RemoteSpace | None:
        """A room, as the first of these servers that knows it says; None where none does."""
        kept = self._kept.get((room_id, suggested_only))
        if kept is not None and kept[0] > self._now_ms():
            return kept[1]
        for server in [name for name in dict.fromkeys(via) if name != self._server_name][:VIA_MAX]:
            found = await self._ask(server, room_id, suggested_only)
            if found is not None:
                self._keep((room_id, suggested_only), found)
                return found
        return None

    async def _ask(self, server: str, room_id: str, suggested_only: bool) -> RemoteSpace | None:
        query = [("suggested_only", "true" if suggested_only else "false")]
        path = path_of(*_BASE, "hierarchy", room_id)
        try:
            answer = await self._client.get(server, path, query, timeout_s=TIMEOUT_S, bytes_max=_BYTES_MAX)
        except FederationError:
            return None
        return _space(answer, room_id)

    def _keep(self, key: tuple[str, bool], found: RemoteSpace) -> None:
        self._kept[key] = self._now_ms() + _KEPT_MS, found
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)


def _space(answer: Any, room_id: str) -> RemoteSpace | None:
    room = _summary(answer.get("room")) if isinstance(answer, dict) else None
    if room is None or room["room_id"] != room_id:
        return None
    children = answer["room"].get("children_state")
    valid = [_child(child) for child in children if _is_child(child)] if isinstance(children, list) else []
    told = answer.get("children")
    summaries = [_summary(child) for child in told] if isinstance(told, list) else []
    hidden = answer.get("inaccessible_children")
    return RemoteSpace(
        room,
        sorted(valid, key=child_order),
        {summary["room_id"]: summary for summary in summaries if summary is not None},
        frozenset(child for child in hidden if isinstance(child, str)) if isinstance(hidden, list) else frozenset(),
    )


_TEXTS = ("name", "topic", "avatar_url", "canonical_alias", "join_rule", "room_type", "encryption", "room_version")


def _summary(value: Any) -> dict[str, Any] | None:
    """The keys of a RoomSummary, of the right types."""
    if not isinstance(value, dict) or not isinstance(value.get("room_id"), str):
        return None
    joined, allowed = value.get("num_joined_members"), value.get("allowed_room_ids")
    found: dict[str, Any] = {
        "room_id": value["room_id"],
        "num_joined_members": joined if type(joined) is int else 0,
        "world_readable": value.get("world_readable") is True,
        "guest_can_join": value.get("guest_can_join") is True,
    }
    if isinstance(allowed, list):
        found["allowed_room_ids"] = [room_id for room_id in allowed if isinstance(room_id, str)]
    return found | {name: value[name] for name in _TEXTS if isinstance(value.get(name), str)}


def _is_child(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("type") == "m.space.child"
        and isinstance(value.get("state_key"), str)
        and isinstance(value.get("sender"), str)
        and type(value.get("origin_server_ts")) is int
        and bool(via_of(value))
    )


def _child(value: dict[str, Any]) -> dict[str, Any]:
    return {name: value[name] for name in ("type", "state_key", "content", "sender", "origin_server_ts")}
