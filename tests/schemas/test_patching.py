"""Another number in a record equals the record of the changed fact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.schemas.codec import encode
from annals.schemas.errors import Undecodable
from annals.schemas.facts.decisions import Decision, Mark, Verdict
from annals.schemas.parts import RECORD_LIMIT_BYTES
from annals.schemas.patching import with_number
from annals.schemas.records import records_of_decision, values_under_epoch
from tests.support.fact_strategies import facts

# Not the twins as which some of them are made (annals.matrix.quick).
KINDS = [kind for kind in Decision.__subclasses__() if kind.__module__ == Decision.__module__]
numbers = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.sampled_from(KINDS).flatmap(facts), numbers)
def test_every_decision_takes_another_epoch(decision: Any, epoch: int) -> None:
    changed = encode(replace(decision, epoch=epoch))
    assert with_number(encode(decision), "epoch", epoch) == changed
    assert values_under_epoch(decision, encode(decision), epoch) == [
        record.value for record in records_of_decision(replace(decision, epoch=epoch), "g1")
    ]


def test_a_large_decision_is_split_under_its_new_epoch() -> None:
    decision = Verdict("!r:a", 1, 1, 3, 1, True, "$e", "accepted", missing=("$x",) * RECORD_LIMIT_BYTES)
    values = values_under_epoch(decision, encode(decision), 300)
    assert len(values) > 1
    assert values == [record.value for record in records_of_decision(replace(decision, epoch=300), "g1")]


def test_what_stands_behind_more_than_numbers_and_strings_is_not_reached() -> None:
    decision = Verdict("!r:a", 1, 1, 3, 1, True, "$e", "accepted", state_before=4)
    value = encode(decision)
    assert with_number(value, "state_before", 5) is None
    assert with_number(value, "event_id", 5) is None
    assert with_number(b"\xc3\x01" + bytes(8), "epoch", 5) is None


def test_a_torn_record_is_refused() -> None:
    value = encode(Mark(3, 2, "w"))
    with pytest.raises((IndexError, Undecodable)):
        with_number(value[:10], "epoch", 4)
