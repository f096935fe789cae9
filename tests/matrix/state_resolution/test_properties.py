"""What holds for every resolution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.auth_events import POWER_LEVELS
from annals.matrix.events import Event
from annals.matrix.room_versions import ROOM_VERSIONS, StateResolution
from annals.matrix.state_resolution import Run, resolve
from annals.matrix.state_resolution.conflicts import Conflicts, Walk, auth_difference, conflicted_subgraph, separate
from annals.matrix.state_resolution.ordering import Mainline
from annals.matrix.state_resolution.source import Reader
from tests.matrix.state_resolution.grown import GrownRoom
from tests.matrix.state_resolution.story import LazySource, Source, StateIds, load_and_resolve
from tests.support.room_events import RoomEvents, user

grown = st.builds(
    GrownRoom, st.builds(Random, st.integers(0, 10**6)), st.sampled_from(list(ROOM_VERSIONS)), st.just(25)
)
counts = st.integers(2, 4)


@given(grown, counts)
def test_the_order_and_number_of_equal_sets_do_not_matter(room: GrownRoom, count: int) -> None:
    sets = room.state_sets(count)
    expected = resolve(room.rules, sets, room.source)
    shuffled = [*sets, *room.rng.choices(sets, k=2)]
    room.rng.shuffle(shuffled)
    assert resolve(room.rules, shuffled, room.source) == expected


@given(grown, counts)
def test_what_all_agree_on_stays_and_nothing_is_invented(room: GrownRoom, count: int) -> None:
    sets = room.state_sets(count)
    resolved = resolve(room.rules, sets, room.source)
    assert set(sets[0].items()).intersection(*(state.items() for state in sets)) <= set(resolved.items())
    assert set(resolved.values()) <= chain_of([event_id for state in sets for event_id in state.values()], room.source)
    assert all(room.room.events[event_id].key == key for key, event_id in resolved.items())
    ids_of = {key: {state.get(key) for state in sets} for key in resolved}
    if room.rules.state_resolution is StateResolution.V1:  # there, what only some states have is no conflict
        ids_of = {key: event_ids - {None} for key, event_ids in ids_of.items()}
    assert not {resolved[key] for key, event_ids in ids_of.items() if len(event_ids) > 1} & room.source.refused


@given(grown, counts)
def test_the_conflicts_are_those_of_the_definitions(room: GrownRoom, count: int) -> None:
    """The walk that stops early finds what walking everything finds."""
    sets = room.state_sets(count)
    unconflicted, conflicts = separate(sets)
    agreed = set(sets[0].items()).intersection(*(state.items() for state in sets))
    parts = [dict(state.items() - agreed) for state in sets]
    assert (dict(unconflicted), conflicts) == (dict(agreed), Conflicts.of(parts))
    conflicted = frozenset(conflicts.masks)
    reader = Reader(room.source)
    common = frozenset(unconflicted.values())
    chains = [chain_of(state.values(), room.source) for state in sets]
    expected = chains[0].union(*chains) - chains[0].intersection(*chains) - conflicted
    for index in (Walk(common, reader), WholeIndex(room.source, common)):
        assert auth_difference(conflicts, unconflicted, reader, index) == expected
    below = {event_id: chain_of([event_id], room.source) for event_id in room.room.events}
    paths = {
        between for top in conflicted for between in below[top] if between in conflicted or below[between] & conflicted
    }
    assert conflicted_subgraph(conflicted, reader) == paths


@given(grown, counts)
def test_an_index_decides_as_a_walk_does(room: GrownRoom, count: int) -> None:
    sets = room.state_sets(count)
    agreed = frozenset(dict(set(sets[0].items()).intersection(*(state.items() for state in sets))).values())
    index = WholeIndex(room.source, agreed)
    assert resolve(room.rules, sets, room.source, index) == resolve(room.rules, sets, room.source)


@given(grown, st.data())
def test_a_mainline_by_chains_orders_as_the_definition(room: GrownRoom, data: st.DataObject) -> None:
    events = room.room.events
    levels = [event_id for event_id, event in events.items() if event.key == POWER_LEVELS]
    newest = data.draw(st.sampled_from(levels))
    reader = Reader(room.source)
    reader.load(events)

    def mainline(event_id: str | None) -> list[str]:
        line: list[str] = []
        while event_id is not None:
            line.append(event_id)
            event_id = reader.power_levels_of(event_id)
        return line

    of_newest = mainline(newest)

    def key(event_id: str) -> tuple[float, int, str]:
        met = (of_newest.index(e) for e in mainline(reader.power_levels_of(event_id)) if e in of_newest)
        return -next(met, float("inf")), events[event_id].origin_server_ts, event_id

    expected = sorted(events, key=key)
    for index in (WholeIndex(room.source, frozenset()), Walk((), reader)):
        assert Mainline(newest, reader, index).sort(events.keys()) == expected


@given(grown, counts)
def test_what_is_missing_is_asked_for_once(room: GrownRoom, count: int) -> None:
    sets = room.state_sets(count)
    lazy = LazySource(room.room.events)
    lazy.refused = room.source.refused
    assert load_and_resolve(room.rules, sets, lazy) == resolve(room.rules, sets, room.source)


def chain_of(event_ids: Iterable[str], source: Source) -> set[str]:
    """These events and all below them, by plain recursion over the definition."""
    found: set[str] = set()
    stack = list(event_ids)
    while stack:
        event_id = stack.pop()
        if event_id not in found:
            found.add(event_id)
            event = source.events[event_id]
            stack += event.auth_events
            if event.type != "m.room.create" and not event.rules.create_cited_in_auth_events:
                stack.append("$" + event.room_id[1:])
    return found


class WholeIndex:
    """An index that answers by the definition; of power levels that follow each other, it makes chains."""

    def __init__(self, source: Source, agreed: frozenset[str]) -> None:
        self.source = source
        self.agreed = agreed
        self.chains: dict[str, tuple[str, int]] = {}
        tips: set[str] = set()
        for event_id, event in source.events.items():
            before = self._cited_levels(event)
            if event.key == POWER_LEVELS and before in self.chains and before not in tips:
                tips.add(before)
                chain, sequence = self.chains[before]
                self.chains[event_id] = chain, sequence + 1
            else:
                self.chains[event_id] = event_id, 1

    def _cited_levels(self, event: Event) -> str:
        cited = (other for other in event.auth_events if self.source.events[other].key == POWER_LEVELS)
        return next(cited, "")

    def difference(self, masks: Mapping[str, int], every_set: int) -> set[str]:
        agreed = chain_of(self.agreed, self.source)
        sets = [[e for e, mask in masks.items() if mask >> bit & 1] for bit in range(every_set.bit_length())]
        chains = [chain_of(own, self.source) | agreed for own in sets]
        return chains[0].union(*chains) - chains[0].intersection(*chains) - masks.keys()

    def between(self, event_ids: frozenset[str]) -> set[str]:
        paths = set(event_ids)
        for top in event_ids:
            below = chain_of([top], self.source)
            paths |= {other for other in below if chain_of([other], self.source) & event_ids}
        return paths

    def mainlines(self, event_ids: AbstractSet[str]) -> dict[str, Iterator[Run]]:
        return {event_id: self._mainline(event_id) for event_id in event_ids}

    def _mainline(self, event_id: str) -> Iterator[Run]:
        while event_id:
            yield self.chains[event_id]
            event_id = self._cited_levels(self.source.events[self.chains[event_id][0]])

    def in_auth_chains(self, candidates: AbstractSet[str], heads: AbstractSet[str]) -> AbstractSet[str]:
        return candidates & {other for head in heads | self.agreed for other in chain_of([head], self.source) - {head}}


@pytest.mark.parametrize("version", ["1", "10", "12"])
def test_no_set_and_one_set(version: str) -> None:
    room = RoomEvents(version)
    state = {room.create.key: room.create.event_id}
    source = Source({})
    assert resolve(room.rules, [], source) == {}
    assert resolve(room.rules, [state], source) == resolve(room.rules, [state, dict(state)], source) == state


def large_room(version: str, members: int) -> tuple[RoomEvents, StateIds]:
    room = RoomEvents(version)
    alice = room.event("$ALICE", "m.room.member", "alice", user("alice"), {"membership": "join"})
    levels = room.event("$POWER", "m.room.power_levels", "alice", "", own_levels(version), auth=cited_by(room, alice))
    rule = room.event(
        "$RULE", "m.room.join_rules", "alice", "", {"join_rule": "public"}, auth=cited_by(room, alice, levels)
    )
    state = {event.key: event.event_id for event in (room.create, alice, levels, rule)}
    for index in range(members):
        name = f"u{index}"
        joined = room.event(
            f"$JOIN{index}",
            "m.room.member",
            name,
            user(name),
            {"membership": "join"},
            auth=cited_by(room, levels, rule),
        )
        state[joined.key] = joined.event_id
    return room, state


def own_levels(version: str) -> dict[str, Any]:
    return {} if version == "12" else {"users": {user("alice"): 100}}


def cited_by(room: RoomEvents, *events: Event) -> list[Event]:
    return [*([room.create] if room.rules.create_cited_in_auth_events else []), *events]


@pytest.mark.parametrize("version", ["1", "2", "10", "11", "12"])
def test_a_large_room_is_not_read_for_a_few_conflicts(version: str) -> None:
    room, state = large_room(version, 1_000)
    levels, rule = room.events["$POWER"], room.events["$RULE"]
    first, second = dict(state), dict(state)
    for index in range(5):
        name, join = f"u{index}", room.events[f"$JOIN{index}"]
        renamed = room.event(
            f"$RENAME{index}",
            "m.room.member",
            name,
            user(name),
            {"membership": "join", "displayname": "x"},
            auth=cited_by(room, levels, rule, join),
        )
        (first if index % 2 else second)[renamed.key] = renamed.event_id
    source = Source(room.events)
    resolved = resolve(room.rules, [first, second], source)
    assert {resolved["m.room.member", user(f"u{index}")] for index in range(5)} == {f"$RENAME{n}" for n in range(5)}
    assert len(resolved) == len(state)
    assert len(source.read) < 20
    lazy = LazySource(room.events)
    assert load_and_resolve(room.rules, [first, second], lazy) == resolved
    assert lazy.round_trips <= 4


def test_a_long_history_needs_no_stack() -> None:
    """Levels changed 1,500 times on one side, more than calls may be nested; the other side never saw it."""
    for version in ("1", "11", "12"):
        room, state = large_room(version, 1)
        alice, levels = room.events["$ALICE"], room.events["$POWER"]
        for index in range(1_500):
            content = own_levels(version) | {"users_default": index % 2}
            levels = room.event(
                f"$P{index}", "m.room.power_levels", "alice", "", content, auth=cited_by(room, alice, levels)
            )
        newer = state | {levels.key: levels.event_id}
        assert resolve(room.rules, [state, newer], Source(room.events)) == newer
