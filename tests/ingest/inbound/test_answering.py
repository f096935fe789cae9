"""Which PDUs are taken for answers to an invite or a knock that we hold, whatever else a server may push."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.ingest.inbound.answering import rules_of_answer
from annals.ingest.inbound.standing import Asked, Found
from annals.matrix.room_versions import ROOM_VERSIONS
from tests.support.pdu_strategies import any_values

ROOM, BOB, HELD, ORIGIN = "!room:theirs", "@bob:ours", "$invite", "theirs"
RULES = ROOM_VERSIONS["10"]
FOUND = Found(
    rooms={},
    elsewhere={},
    joining={},
    asked={ROOM: Asked(RULES, {BOB: HELD})},
    known=frozenset(),
    joined=frozenset(),
    devices={},
    sharing=frozenset(),
    answer=None,
)
GOOD: dict[str, Any] = {
    "type": "m.room.member",
    "sender": "@alice:theirs",
    "state_key": BOB,
    "content": {"membership": "leave"},
    "prev_events": [HELD],
    "auth_events": [],
}


@pytest.mark.parametrize(
    ("changes", "is_one"),
    [
        ({}, True),
        ({"content": {"membership": "ban"}}, True),
        ({"prev_events": [], "auth_events": [HELD]}, True),
        ({"prev_events": [[HELD, {"sha256": "x"}]]}, True),
        ({"prev_events": ["$other"]}, False),
        ({"content": {"membership": "join"}}, False),
        ({"content": {"membership": ["leave"]}}, False),
        ({"content": {"membership": {}}}, False),
        ({"content": ["leave"]}, False),
        ({"state_key": "@carol:ours"}, False),
        ({"state_key": [BOB]}, False),
        ({"sender": "@alice:elsewhere"}, False),
        ({"sender": ["@alice:theirs"]}, False),
        ({"type": "m.room.name"}, False),
    ],
)
def test_what_is_an_answer(changes: dict[str, Any], is_one: bool) -> None:
    assert rules_of_answer(FOUND, ROOM, GOOD | changes, ORIGIN) == (RULES if is_one else None)


@given(st.one_of(any_values, st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, any_values)).map(GOOD.__or__)))
def test_anything_at_all_is_one_or_none(pdu: Any) -> None:
    assert rules_of_answer(FOUND, ROOM, pdu, ORIGIN) in (RULES, None)


@given(any_values, st.sampled_from(["leave", "ban"]) | any_values)
def test_any_content_is_one_or_none(more: Any, membership: Any) -> None:
    content = (more if isinstance(more, dict) else {}) | {"membership": membership}
    found = rules_of_answer(FOUND, ROOM, GOOD | {"content": content}, ORIGIN)
    assert found == (RULES if membership in ("leave", "ban") else None)
