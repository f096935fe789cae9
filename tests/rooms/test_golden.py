"""Decisions on rooms that were logged once do not change unless the decide version does."""

from __future__ import annotations

import pytest

from annals.rooms.step import DECIDE_VERSION
from annals.schemas.facts.rooms import PduCreated, PduFetched, PduReceived
from tests.support.golden_rooms import HOW, digest, stored
from tests.support.room_weaver import VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_decisions_of_the_golden_corpus(version: str) -> None:
    corpus = stored(version)
    assert corpus["decide_version"] == DECIDE_VERSION, f"the decide version was raised: write the corpus anew: {HOW}"
    for room in corpus["rooms"]:
        assert digest(room["room_id"], room["facts"]) == room["digest"], (
            f"decisions changed in {room['room_id']}: raise DECIDE_VERSION in rooms/step.py, then run {HOW}"
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_the_corpus_is_worth_it(version: str) -> None:
    rooms = stored(version)["rooms"]
    assert len(rooms) >= 3
    kinds = {type(fact) for room in rooms for fact in room["facts"]}
    assert {PduCreated, PduFetched, PduReceived} < kinds
    assert len({room["digest"] for room in rooms}) == len(rooms)
