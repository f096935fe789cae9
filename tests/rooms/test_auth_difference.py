"""The auth difference by ranges of chains is that of the definition; and a machine that walks nothing decides alike."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from random import Random
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from annals.matrix.events import StateKey
from annals.matrix.state_resolution import conflicts
from annals.rooms.auth_chains import Place
from annals.rooms.auth_difference import FarDifference
from annals.rooms.auth_index import Agreed, ChainIndex
from annals.rooms.needs import NEWEST_CHAIN
from annals.rooms.state import root_state
from annals.rooms.view import RoomView
from tests.support.auth_graphs import Graph, PartlyStored, chain_of, random_graph
from tests.support.room_weaver import VERSIONS, driver_of, woven


class ByDefinition:
    """An index of a graph whose states agree on some events; counts what it is asked."""

    def __init__(self, room: PartlyStored, view: RoomView, agreed: AbstractSet[str]) -> None:
        self.view, self.agreed, self.asked = view, self, 0
        self._on = {room.graph[event_id][0]: event_id for event_id in agreed}
        self._led_to = set[str]().union(*(chain_of(room.graph, event_id) for event_id in agreed))
        self._below = agreed | self._led_to
        self._at = {p.place: p for p in room.placed.values()}

    def have(self, keys: Iterable[StateKey]) -> None:
        """All is here."""

    def get(self, key: StateKey) -> str | None:
        return self._on.get(key)

    def is_agreed_above(self, place: Place, key: StateKey) -> bool:
        self.asked += 1
        assert self._at[place].key == key
        return self._at[place].event_id in self._below

    def in_auth_chains(self, candidates: AbstractSet[str], heads: AbstractSet[str]) -> AbstractSet[str]:
        assert not heads
        return candidates & self._led_to


def random_states(rng: Random, graph: Graph, count: int) -> tuple[dict[str, int], set[str]]:
    """By conflicted event which of so many states have it; and what all agree on."""
    masks: dict[str, int] = {}
    agreed: set[str] = set()
    for key in sorted({key for key, _ in graph.values()}):
        of_key = sorted(event_id for event_id in graph if graph[event_id][0] == key)
        if rng.random() < 0.4:
            agreed.add(rng.choice(of_key))
            continue
        chosen = [rng.choice([*of_key, None]) for _ in range(count)]
        if len(set(chosen)) > 1:
            for bit, event_id in enumerate(chosen):
                if event_id:
                    masks[event_id] = masks.get(event_id, 0) | 1 << bit
    return masks, agreed


@given(st.integers(0, 2**32), st.integers(2, 60), st.integers(0, 60), st.integers(2, 4))
def test_the_difference_is_that_of_the_definition(seed: int, size: int, stored: int, count: int) -> None:
    rng = Random(seed)
    graph = random_graph(rng, size)
    room = PartlyStored(rng, graph, stored)
    masks, agreed = random_states(rng, graph, count)
    states = [{e for e, mask in masks.items() if mask >> bit & 1} | agreed for bit in range(count)]
    reached = [own.union(*(chain_of(graph, event_id) for event_id in own)) for own in states]
    expected = reached[0].union(*reached) - reached[0].intersection(*reached) - masks.keys()

    def ask(view: RoomView) -> set[str]:
        return FarDifference(cast(ChainIndex, ByDefinition(room, view, agreed)), masks, (1 << count) - 1).find()

    assert room.answered(ask) == expected


@pytest.mark.parametrize(("agreed", "questions"), [(0, 2), (1, 40), (500, 40), (999, 40), (1_000, 2)])
def test_of_a_long_chain_few_are_asked_about(agreed: int, questions: int) -> None:
    """Power levels that were changed a thousand times since the other state; what both agree on cites some of them."""
    levels, member = ("m.room.power_levels", ""), ("m.room.member", "@a:a")
    graph: Graph = {"$0": (levels, ())}
    for number in range(1, 1_001):
        graph[f"${number}"] = levels, (f"${number - 1}",)
    graph["$member"] = member, (f"${agreed}",)
    graph["$last"] = ("m.room.topic", ""), ("$1000",)
    room = PartlyStored(Random(0), graph, len(graph))
    masks, asked = {"$last": 1, "$0": 2}, 0

    def ask(view: RoomView) -> set[str]:
        nonlocal asked
        index = ByDefinition(room, view, {"$member"})
        found = FarDifference(cast(ChainIndex, index), masks, 3).find()
        asked = index.asked
        return found

    assert room.answered(ask) == {f"${number}" for number in range(agreed + 1, 1_001)}
    assert asked <= questions


def test_what_all_agree_on_may_not_be_in_the_index_yet() -> None:
    levels, member = ("m.room.power_levels", ""), ("m.room.member", "@a:a")
    graph: Graph = {"$1": (levels, ())}
    graph |= {f"${number}": (levels, (f"${number - 1}",)) for number in (2, 3, 4)}
    graph["$member"] = member, ("$3",)
    rooms = (PartlyStored(Random(seed), graph, 4) for seed in range(1_000))
    room = next(room for room in rooms if set(room.view.auth.fresh) == {"$member"})
    chain = room.placed["$1"].place.chain_id
    state, _ = root_state(room.view.room_id, {levels: "$4", member: "$member"}, 7)
    pages = {(chain, number, NEWEST_CHAIN, state.stored_id): () for number in range(1, 5)}
    view = replace(room.view, auth=replace(room.view.auth, citing=Map(pages)))
    index = ChainIndex(view, Agreed(state, {levels}))
    assert [index.is_agreed_above(Place(chain, number), levels) for number in range(1, 5)] == [True, True, True, False]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_machine_that_walks_nothing_decides_the_same(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        weaver = woven(seed, version, 40)
        expected = driver_of(weaver).encoded()
        with monkeypatch.context() as patched:
            patched.setattr(conflicts, "LEVELS_WALKED", 0)
            for cold in (True, False):
                assert driver_of(weaver, cold=cold).encoded() == expected
