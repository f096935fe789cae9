"""Steps out of the records of a decisions topic: which count, and what is refused as torn."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from annals.projectors.errors import TornDecisions
from annals.projectors.rooms.decided import Assembler, DecidedStep
from annals.schemas.codec import encode
from annals.schemas.facts.decisions import Decision, Mark, Waiting
from annals.schemas.position import pack


def _decided(offset: int, count: int = 1, epoch: int = 1) -> list[Decision]:
    return [Waiting("!r", pack(offset, n), offset, epoch, 1, n == count - 1) for n in range(count)]


def _steps(records: Sequence[Decision | Mark], next_offset: int = 0, marked_epoch: int = 1) -> list[DecidedStep]:
    assembler = Assembler(next_offset, marked_epoch)
    fed = [assembler.feed(number, encode(record)) for number, record in enumerate(records)]
    return [step for step in fed if step is not None]


@pytest.mark.parametrize("count", [1, 2])
def test_a_step_is_whole_with_its_last_decision_and_counts_once(count: int) -> None:
    decisions = _decided(3, count)
    (step,) = _steps([*decisions, *decisions])
    assert step == DecidedStep(3, tuple(decisions), count, tuple(map(encode, decisions)))
    assert _steps(decisions, next_offset=4) == []


@pytest.mark.parametrize("count", [1, 2])
def test_no_epoch_decides_without_its_mark(count: int) -> None:
    with pytest.raises(TornDecisions):
        _steps(_decided(3, count, epoch=2))
    assert len(_steps([Mark(2, 1, "other"), *_decided(3, count, epoch=2)])) == 1


def test_a_lower_epoch_than_the_mark_before_is_void() -> None:
    assert [step.offset for step in _steps([*_decided(3), Mark(2, 1, "other"), *_decided(4)])] == [3]


def test_a_mark_ends_a_step_that_is_not_whole() -> None:
    first, _ = _decided(3, 2)
    anew = _decided(3, 1, epoch=2)
    assert [step.decisions for step in _steps([first, Mark(2, 1, "other"), *anew])] == [tuple(anew)]


def test_decisions_of_a_step_stand_together_and_in_order() -> None:
    first, second = _decided(3, 2)
    for torn in ([second], [first, first], [first, *_decided(4)]):
        with pytest.raises(TornDecisions):
            _steps(torn)
