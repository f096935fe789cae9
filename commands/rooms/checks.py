"""What the tables say about an event before it is sent: annotations that are there, aliases that point elsewhere.

Looked up once, outside of the room's builder: both are services to clients, and decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annals.commands.errors import Refused
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.identifiers import is_room_alias
from annals.projectors.sealables import unpacked

_ANNOTATIONS_SQL = """
    SELECT client_json FROM events
    WHERE room_id = %s AND relates_to = %s AND type = %s AND sender = %s AND verdict = 'accepted'
        AND redacted_by IS NULL AND idempotency_key IS DISTINCT FROM %s
"""
_ALIASES_SQL = "SELECT alias, room_id FROM aliases WHERE alias = ANY (%s)"
_PERMISSION_SQL = """
    SELECT content FROM account_data
    WHERE user_id = %s AND room_id = '' AND type = 'm.invite_permission_config'
"""
_CURRENT_SQL = """
    SELECT e.client_json FROM current_state cs JOIN events e ON e.room_id = cs.room_id AND e.event_id = cs.event_id
    WHERE cs.room_id = %s AND cs.type = 'm.room.canonical_alias' AND cs.state_key = ''
        AND e.redacted_by IS NULL
"""


def check_annotation(
    snapshot: Snapshot, room_id: str, sender: str, event_type: str, annotation: tuple[str, str], key: str | None
) -> None:
    """Refuse what the sender has said of the event already: "servers SHOULD reject duplicate annotations"."""
    event_id, annotation_key = annotation
    for (text,) in snapshot.rows(_ANNOTATIONS_SQL, (room_id, event_id, event_type, sender, key)):
        relation = loads(restore(text))["content"].get("m.relates_to")
        if (
            isinstance(relation, dict)
            and relation.get("rel_type") == "m.annotation"
            and relation.get("key") == annotation_key
        ):
            raise Refused(400, "M_DUPLICATE_ANNOTATION", "You have annotated the event with this already")


def check_aliases(snapshot: Snapshot, room_id: str, content: Mapping[str, Any]) -> None:
    """Refuse aliases of an m.room.canonical_alias that are none (M_INVALID_PARAM), or not this room's (M_BAD_ALIAS).

    "Servers do not validate aliases which are being removed or are already present in the state event."
    """
    row = snapshot.one(_CURRENT_SQL, (room_id,))
    present = _named(loads(restore(row[0]))["content"]) if row else set()
    new = sorted(_checked(content) - present)
    targets = {restore(alias): restore(room) for alias, room in snapshot.rows(_ALIASES_SQL, (new,))} if new else {}
    for alias in new:
        if targets.get(alias) != room_id:
            raise Refused(400, "M_BAD_ALIAS", f"The alias {alias} does not point to this room.")


def check_takes_invites(snapshot: Snapshot, user_id: str) -> None:
    """Refuse an invite of a user of ours who blocks them ("Invite permission")."""
    row = snapshot.one(_PERMISSION_SQL, (user_id,))
    value = unpacked(bytes(row[0])) if row else b"{}"
    content = loads(value) if isinstance(value, bytes) else {}
    if isinstance(content, dict) and content.get("default_action") == "block":
        raise Refused(403, "M_INVITE_BLOCKED", "The user takes no invites")


def _checked(content: Mapping[str, Any]) -> set[str]:
    alias, others = content.get("alias"), content.get("alt_aliases")
    if alias not in (None, "") and not isinstance(alias, str):
        raise Refused(400, "M_INVALID_PARAM", "alias must be a string")
    if others is not None and not (isinstance(others, list) and all(isinstance(other, str) for other in others)):
        raise Refused(400, "M_INVALID_PARAM", "alt_aliases must be a list of strings")
    named = _named(content)
    for name in named:
        if not is_room_alias(name):
            raise Refused(400, "M_INVALID_PARAM", f"Not a room alias: {name[:300]}")
    return named


def _named(content: Mapping[str, Any]) -> set[str]:
    alias, others = content.get("alias"), content.get("alt_aliases")
    named = {other for other in others if isinstance(other, str)} if isinstance(others, list) else set()
    return named | ({alias} if isinstance(alias, str) and alias else set())
