"""What a row of `events` says of the event itself: of any event, or of a message, straight from the record's texts.

Nine of ten events are messages, of which nobody asks more than that. The parts of such a record are canonical JSON, so
what a client is shown of the content is a piece of the body as it stands: it is neither read nor written again.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from annals.matrix.events import Event
from annals.matrix.identifiers import is_event_id
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms.event_json import REDACTION, split_event
from annals.schemas.facts.rooms import PduFact

MEMBER, CREATE = "m.room.member", "m.room.create"
_RELATION = b'"m.relates_to"'
#: What the skeleton of a state event has, and no other: canonical JSON, in which quotes of values are escaped.
STATE_KEY = b'"state_key":'


class EventColumns(msgspec.Struct, frozen=True, gc=False):
    """Columns of annals.projectors.rooms.tables.EVENTS, by their names."""

    type: str
    state_key: str | None
    sender: str
    depth: int
    origin_server_ts: int
    prev_events: tuple[str, ...]
    auth_events: tuple[str, ...]
    client_json: str
    federation_json: str
    membership: str | None
    redacts: str | None
    relates_to: str | None


def columns_of(event: Event) -> EventColumns:
    """Those of any event."""
    client_json, federation_json = split_event(event)
    return EventColumns(
        event.type,
        event.state_key,
        event.sender,
        event.depth,
        event.origin_server_ts,
        event.prev_events,
        event.auth_events,
        client_json,
        federation_json,
        membership_of(event),
        event.redacts,
        _parent(event.content),
    )


def membership_of(event: Event) -> str | None:
    """The membership that a member event gives; None where it gives none that is a string."""
    if event.type != MEMBER:
        return None
    membership = event.content.get("membership")
    return membership if isinstance(membership, str) else None


def _parent(content: dict[str, Any]) -> str | None:
    relation = content.get("m.relates_to")
    parent = relation.get("event_id") if isinstance(relation, dict) else None
    # Anybody may write anything here, and an index entry has a size limit.
    return parent if isinstance(parent, str) and is_event_id(parent) else None


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """`{}`: what a redaction leaves of the content of a message."""


class _Skeleton(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message's, with no key that is not expected. `Raw` stays the text that it is."""

    auth_events: tuple[str, ...]
    content: _Nothing
    depth: int
    hashes: msgspec.Raw
    origin_server_ts: int
    prev_events: tuple[str, ...]
    room_id: str
    sender: str
    signatures: msgspec.Raw
    type: str
    origin: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: msgspec.Raw = msgspec.Raw(b"{}")


class _ClientJson(msgspec.Struct, gc=False):
    """See annals.projectors.rooms.event_json; keys in the order of canonical JSON, here and below."""

    content: msgspec.Raw
    event_id: str
    origin_server_ts: int
    room_id: str
    sender: str
    type: str


class _FederationJson(msgspec.Struct, gc=False):
    auth_events: tuple[str, ...]
    depth: int
    hashes: msgspec.Raw
    origin: msgspec.Raw | msgspec.UnsetType
    prev_events: tuple[str, ...]
    signatures: msgspec.Raw


_skeleton = msgspec.json.Decoder(_Skeleton).decode
_body = msgspec.json.Decoder(_Body).decode
# It escapes what orjson escapes, in the same way.
_text = msgspec.json.Encoder().encode


def columns_of_message(fact: PduFact) -> EventColumns | None:
    """Those of a message as it was received; None of anything else, and of a message that is not as messages are."""
    if STATE_KEY in fact.skeleton or not ROOM_VERSIONS[fact.room_version].strict_canonical_json:
        return None
    body = fact.body
    # A message whose content hash failed, or whose body is sealed, is its skeleton alone.
    if not isinstance(body, bytes) or not getattr(fact, "content_hash_ok", True):
        return None
    try:
        kept, content = _skeleton(fact.skeleton), _body(body).content
    except msgspec.MsgspecError:
        return None
    kind, sender, depth, sent_ms = kept.type, kept.sender, kept.depth, kept.origin_server_ts
    if kind in (MEMBER, CREATE, REDACTION):
        return None
    prev_events, auth_events = kept.prev_events, kept.auth_events
    shown = _ClientJson(content, fact.event_id, sent_ms, kept.room_id, sender, kind)
    rest = _FederationJson(auth_events, depth, kept.hashes, kept.origin, prev_events, kept.signatures)
    parent = _parent(orjson.loads(bytes(content))) if _RELATION in body else None
    texts = _text(shown).decode(), _text(rest).decode()
    return EventColumns(kind, None, sender, depth, sent_ms, prev_events, auth_events, *texts, None, None, parent)
