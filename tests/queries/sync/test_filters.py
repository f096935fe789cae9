"""Filters: what is none is refused, and the condition in SQL is the one in Python."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.queries.sync.event_fields import only_fields
from annals.queries.sync.filters import LIMIT_MAX, BadFilter, EventFilter, event_filter, sync_filter

NASTY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = ["limit", "types", "not_types", "senders", "not_senders", "rooms", "contains_url", "lazy_load_members"]
NAMES += ["room", "timeline", "state", "event_fields", "account_data", "include_leave"]


@given(st.dictionaries(st.sampled_from(NAMES), NASTY | st.dictionaries(st.sampled_from(NAMES), NASTY)))
def test_a_definition_is_a_filter_or_refused(definition: dict[str, Any]) -> None:
    try:
        made = sync_filter(definition)
    except BadFilter:
        return
    assert 0 <= made.timeline.limit <= LIMIT_MAX


@pytest.mark.parametrize(
    "definition", [{"limit": "1"}, {"limit": True}, {"types": "m.room"}, {"types": [1]}, {"contains_url": 1}]
)
def test_refused(definition: dict[str, Any]) -> None:
    with pytest.raises(BadFilter):
        event_filter(definition)


@given(st.text("ab*._%\\", max_size=6), st.text("ab._%\\", max_size=6))
def test_a_star_stands_for_anything(pattern: str, text: str) -> None:
    expected = re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), text, re.DOTALL)
    assert EventFilter(types=(pattern,)).takes_type(text) is (expected is not None)
    assert EventFilter(not_types=(pattern,)).takes_type(text) is (expected is None)


def test_what_is_refused_counts_before_what_is_asked_for() -> None:
    both = EventFilter(types=("m.*",), not_types=("m.room.*",), senders=("@a",), not_senders=("@a",))
    assert both.takes_type("m.x")
    assert not both.takes_type("m.room.name")
    assert not both.takes_sender("@a")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["type"], {"type": "t"}),
        (["content.body", "type"], {"type": "t", "content": {"body": "b"}}),
        ([r"content.a\.b"], {"content": {"a.b": 1}}),
        (["content", "content.body"], {"content": {"body": "b", "a.b": 1}}),
        (["nothing.here", "type.deeper"], {}),
    ],
)
def test_event_fields(fields: list[str], expected: dict[str, Any]) -> None:
    kept = only_fields(rb'{"type":"t","content":{"body":"b","a.b":1}}', fields)
    assert json.loads(kept) == expected
