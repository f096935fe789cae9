"""What the tables say of rooms elsewhere: handshakes, what is wanted of other servers, and what invites show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.errors import MatrixError
from annals.projectors.rooms.found import Reads

_COLUMNS = (
    "room_id, handshake_id, kind, user_id, servers, content, attached_to, outcome, http_status, errcode, reason, "
    "event_id, source, position"
)
_HANDSHAKE = f"SELECT {_COLUMNS} FROM handshakes WHERE room_id = %s AND handshake_id = %s"
_OPEN = f"SELECT {_COLUMNS} FROM handshakes WHERE outcome IS NULL ORDER BY room_id, source"
_WANTED = "SELECT room_id, event_id, kind, wanted_by, position FROM wanted ORDER BY position, event_id"
_PREVIEWS = """
SELECT p.room_id, p.event_id, m.membership, p.room_state, p.position
FROM room_previews p JOIN local_current_membership m
    ON m.room_id = p.room_id AND m.user_id = p.user_id AND m.event_id = p.event_id
WHERE p.user_id = %s AND NOT m.forgotten ORDER BY p.position"""


@dataclass(frozen=True, slots=True)
class Handshake:
    """A join, knock or leave by way of other servers. `outcome` None: it is open; `attached_to` another one of the
    room, it ends with that one, and nobody carries it out. `source` is the offset of its HandshakeStarted."""

    room_id: str
    handshake_id: str
    kind: str
    user_id: str
    servers: tuple[str, ...]
    content: dict[str, Any]
    attached_to: str | None
    outcome: str | None
    http_status: int | None
    errcode: str | None
    reason: str | None
    event_id: str | None
    source: int
    position: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """An event that a room lacks. `kind`: prev or auth; `wanted_by`: the parked event that opened it."""

    room_id: str
    event_id: str
    kind: str
    wanted_by: str
    position: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a user is shown of a room whose state we do not have: by the member event, stripped state events."""

    room_id: str
    event_id: str
    membership: str
    room_state: tuple[dict[str, Any], ...]
    position: int


def handshake_of(reads: Reads, room_id: str, handshake_id: str) -> Handshake | None:
    """The handshake, if the tables have it."""
    rows = reads.rows(_HANDSHAKE, (room_id, handshake_id))
    return _handshake(rows[0]) if rows else None


def open_handshakes(reads: Reads) -> list[Handshake]:
    """All handshakes without an outcome, attached ones included."""
    return [_handshake(row) for row in reads.rows(_OPEN)]


def wanted_of(reads: Reads) -> list[Wanted]:
    """All that rooms lack, oldest first."""
    return [
        Wanted(restore(room_id), restore(event_id), kind, restore(wanted_by), position)
        for room_id, event_id, kind, wanted_by, position in reads.rows(_WANTED)
    ]


def preview_of(reads: Reads, user_id: str) -> dict[str, Preview]:
    """By room: what stands for the user's membership in rooms whose state we do not have, oldest first."""
    found = {}
    for room_id, event_id, membership, room_state, position in reads.rows(_PREVIEWS, (user_id,)):
        room = restore(room_id)
        found[room] = Preview(room, restore(event_id), restore(membership), _stripped(room_state), position)
    return found


def _handshake(row: tuple[Any, ...]) -> Handshake:
    room_id, handshake_id, kind, user_id, servers, content, attached_to, outcome, *ended, source, position = row
    http_status, errcode, reason, event_id = ended
    return Handshake(
        room_id=restore(room_id),
        handshake_id=restore(handshake_id),
        kind=kind,
        user_id=restore(user_id),
        servers=tuple(map(restore, servers)),
        content=_object(content),
        attached_to=_text(attached_to),
        outcome=outcome,
        http_status=http_status,
        errcode=_text(errcode),
        reason=_text(reason),
        event_id=_text(event_id),
        source=source,
        position=position,
    )


def _text(stored: str | None) -> str | None:
    return None if stored is None else restore(stored)


def _object(content: str | None) -> dict[str, Any]:
    parsed = _json(content)
    return parsed if isinstance(parsed, dict) else {}


def _stripped(room_state: str) -> tuple[dict[str, Any], ...]:
    parsed = _json(room_state)
    return tuple(event for event in parsed if isinstance(event, dict)) if isinstance(parsed, list) else ()


def _json(text: str | None) -> Any:
    try:
        return None if text is None else loads(restore(text).encode())
    except MatrixError:
        return None
