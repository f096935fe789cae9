"""Decisions that are too large for one record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from annals.schemas.codec import decode
from annals.schemas.errors import TornParts
from annals.schemas.facts.decisions import DecisionPart
from annals.schemas.parts import RECORD_LIMIT_BYTES, Joiner, split

LARGE = bytes(range(256)) * 1000


def _parts(value: bytes = LARGE) -> list[DecisionPart]:
    return [decode(record) for record in split(value, epoch=3)]


@pytest.mark.parametrize("size", [0, 1, RECORD_LIMIT_BYTES])
def test_what_fits_stays_whole(size: int) -> None:
    assert split(LARGE[:size], epoch=3) == [LARGE[:size]]


@pytest.mark.parametrize("size", [RECORD_LIMIT_BYTES + 1, 2 * (RECORD_LIMIT_BYTES - 1024), 200_000, len(LARGE)])
def test_parts_are_small_and_give_the_whole(size: int) -> None:
    records = split(LARGE[:size], epoch=3)
    assert len(records) > 1
    assert max(map(len, records)) <= RECORD_LIMIT_BYTES
    joiner = Joiner()
    results = [joiner.add(decode(record)) for record in records]
    assert results == [None] * (len(records) - 1) + [LARGE[:size]]
    assert not joiner.waiting


def test_one_joiner_joins_one_group_after_another() -> None:
    joiner = Joiner()
    for value in (LARGE, LARGE[1:], LARGE):
        assert [joiner.add(part) for part in _parts(value)][-1] == value


def test_a_torn_group_is_dropped_at_a_mark() -> None:
    joiner, parts = Joiner(), _parts()
    joiner.add(parts[0])
    assert joiner.waiting
    joiner.reset()
    assert [joiner.add(part) for part in parts][-1] == LARGE


@pytest.mark.parametrize("order", [[1], [0, 2], [0, 0], [0, 1, 1]])
def test_parts_out_of_order(order: list[int]) -> None:
    joiner, parts = Joiner(), _parts()
    with pytest.raises(TornParts):
        for index in order:
            joiner.add(parts[index])


def test_parts_of_two_groups_do_not_mix() -> None:
    joiner = Joiner()
    joiner.add(_parts()[0])
    with pytest.raises(TornParts):
        joiner.add(_parts(LARGE[1:])[1])


def test_a_part_with_altered_bytes() -> None:
    joiner, parts = Joiner(), _parts()
    parts[1] = replace(parts[1], data=parts[1].data[::-1])
    with pytest.raises(TornParts):
        for part in parts:
            joiner.add(part)
