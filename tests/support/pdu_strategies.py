"""Hypothesis strategies for JSON values and PDUs."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from annals.matrix.canonical_json import INTEGER_MAX, INTEGER_MIN
from annals.matrix.room_versions import ROOM_VERSIONS, EventIdFormat, RoomRules

texts = st.text(max_size=20)  # no lone surrogates; U+0000 and control characters included
strict_integers = st.integers(INTEGER_MIN, INTEGER_MAX)

strict_scalars = st.none() | st.booleans() | strict_integers | texts
any_scalars = (
    st.none() | st.booleans() | texts | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)
)


def json_values(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Nested values with these leaves."""
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
    )


strict_values = json_values(strict_scalars)
any_values = json_values(any_scalars)

rules = st.sampled_from(list(ROOM_VERSIONS.values()))

_EVENT_TYPES = st.sampled_from(
    [
        *("m.room.create", "m.room.member", "m.room.power_levels", "m.room.join_rules", "m.room.redaction"),
        *("m.room.third_party_invite", "m.room.history_visibility", "m.room.aliases", "m.room.policy"),
        *("m.room.message", "org.example.other"),
    ]
)
_CONTENT_KEYS = st.sampled_from(
    [
        *("membership", "displayname", "creator", "room_version", "m.federate", "additional_creators", "predecessor"),
        *("join_rule", "allow", "ban", "invite", "users", "notifications", "events", "history_visibility", "aliases"),
        *("public_key", "public_keys", "key_validity_url", "via", "redacts", "reason", "body"),
        "join_authorised_via_users_server",
    ]
)
_third_party_invites = (
    st.fixed_dictionaries({}, optional={"signed": strict_values, "display_name": texts, "other": strict_values})
    | strict_scalars
)


# Made here, once: made for each example anew they would be checked anew, which takes longer than drawing from them.
_plain_contents = st.dictionaries(_CONTENT_KEYS | texts, strict_values, max_size=8)
_senders = st.sampled_from(["@alice:a.example", "@bob:b.example:8448", "@:a.example"])
_depths = st.integers(0, INTEGER_MAX)
_prev_events = st.lists(st.just("$" + "p" * 43), max_size=3)
_auth_events = st.lists(st.just("$" + "a" * 43), max_size=3)
_more_hashes = st.dictionaries(texts, texts, max_size=1)
_chosen_ids = st.sampled_from(["$event:a.example", "$other:b.example:8448"])
_state_keys = st.sampled_from(["", "@alice:a.example", "a.example"])
_extras = st.dictionaries(
    st.sampled_from(["origin", "membership", "prev_state", "redacts", "unsigned"]) | texts, strict_values, max_size=3
)
_either = st.booleans()


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    """Contents with the keys that redaction and decisions look at, whatever the type, and others."""
    content: dict[str, Any] = draw(_plain_contents)
    if draw(_either):
        content["third_party_invite"] = draw(_third_party_invites)
    return content


_contents = contents()


@st.composite
def pdus(draw: st.DrawFn, rules: RoomRules) -> dict[str, Any]:
    """PDUs in the format of a room version; ids and hashes are made up."""
    pdu: dict[str, Any] = {
        "type": draw(_EVENT_TYPES),
        "sender": draw(_senders),
        "content": draw(_contents),
        "depth": draw(_depths),
        "origin_server_ts": draw(strict_integers),
        "prev_events": draw(_prev_events),
        "auth_events": draw(_auth_events),
        "hashes": {"sha256": "h" * 43, **draw(_more_hashes)},
        "signatures": {"a.example": {"ed25519:1": "s" * 86}},
    }
    if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
        pdu["event_id"] = draw(_chosen_ids)
        for name in ("prev_events", "auth_events"):
            pdu[name] = [[event_id, {"sha256": "h" * 43}] for event_id in pdu[name]]
    if draw(_either):
        pdu["state_key"] = draw(_state_keys)
    if not (rules.room_id_is_create_hash and pdu["type"] == "m.room.create" and pdu.get("state_key") == ""):
        pdu["room_id"] = "!" + "r" * 43
    for key, value in draw(_extras).items():
        if key != "event_id":
            pdu.setdefault(key, value)
    return pdu
