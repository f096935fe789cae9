"""Whatever JSON stands in whatever field, the rules answer."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.auth_rules import Rejection, allowed, check_auth_events, check_signers
from annals.matrix.room_versions import ROOM_VERSIONS
from tests.support.room_events import RoomEvents, state_of

USERS = ["@alice:a", "@bob:b", "@carol:c"]
FIELDS = [
    "membership",
    "join_rule",
    "users",
    "users_default",
    "events",
    "events_default",
    "state_default",
    "ban",
    "kick",
    "redact",
    "invite",
    "notifications",
    "creator",
    "additional_creators",
    "m.federate",
    "room_version",
    "third_party_invite",
    "signed",
    "mxid",
    "token",
    "signatures",
    "public_key",
    "public_keys",
    "join_authorised_via_users_server",
    "ed25519:0",
]
TYPES = [
    "m.room.create",
    "m.room.member",
    "m.room.join_rules",
    "m.room.power_levels",
    "m.room.third_party_invite",
    "m.room.topic",
    "m.room.redaction",
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.sampled_from(["", "x", "join", "invite", "leave", "ban", "knock", "public", "restricted", "\ud800", *USERS]),
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS + USERS), inner, max_size=4),
    max_leaves=8,
)
contents = st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6)
events = st.tuples(
    st.sampled_from(TYPES),
    st.sampled_from(USERS),
    st.sampled_from([None, "", "x", *USERS]),
    contents,
)


@given(st.sampled_from(sorted(ROOM_VERSIONS)), contents, st.lists(events, max_size=6), events)
def test_no_content_raises(version: str, create: dict[str, Any], others: list[Any], judged: Any) -> None:
    room = RoomEvents(version, content=create)
    cited = [room.create, *(room.event(f"${index}", *fields) for index, fields in enumerate(others))]
    event = room.event("$E", *judged, auth=cited)
    state = state_of(other for other in cited if other.is_state)
    # The rules come to their point only where everybody is joined.
    joined = state_of(room.member(name, "join") for name in USERS)
    for verdict in (
        allowed(event, state),
        allowed(event, joined | state | {room.create.key: room.create}),
        allowed(event, state | joined | {room.create.key: room.create}),
        check_auth_events(event, [(other, False) for other in cited]),
        check_signers(event),
    ):
        assert verdict is None or isinstance(verdict, Rejection)
