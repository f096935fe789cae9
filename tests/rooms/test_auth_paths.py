"""What stands between events, and mainlines: the chain cover and what is not in it yet answer as the definition."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from annals.matrix.auth_events import POWER_LEVELS
from annals.matrix.state_resolution import Run
from annals.rooms.auth_chains import ChainCover, Citing, Place, Placed
from annals.rooms.auth_paths import Below, between, highest, lowest, mainlines
from annals.rooms.needs import Needs, Places
from annals.rooms.state import Lacking
from annals.rooms.view import ACCEPTED, AuthGraph, Entry, RoomView
from tests.support.auth_graphs import chain_of, random_graph, random_order
from tests.support.room_events import RoomEvents

Graph = dict[str, tuple[tuple[str, str], tuple[str, ...]]]
ROOM = "!room"


class PartlyStored:
    """A graph of which the first `stored` events, in some order of their decisions, are in the tables."""

    def __init__(self, rng: Random, graph: Graph, stored: int) -> None:
        self.graph, self.room = graph, RoomEvents("11")
        order = random_order(rng, graph)
        cover, self.placed = ChainCover(()), dict[str, Placed]()
        for number, event_id in enumerate(order[:stored]):
            key, cited = graph[event_id]
            self.placed |= {p.event_id: p for p in cover.add(Citing(event_id, key, cited, 100 + number))}
        entries = {event_id: self._entry(event_id, number) for number, event_id in enumerate(order)}
        places = {event_id: self.placed[event_id].place if event_id in self.placed else None for event_id in order}
        fresh = {event_id: entries[event_id] for event_id in order[stored:]}
        self.view = RoomView(ROOM, events=Map(entries), auth=AuthGraph(Map(places), Map(), Map(fresh)))

    def _entry(self, event_id: str, number: int) -> Entry:
        (event_type, state_key), cited = self.graph[event_id]
        auth = [self.room.events[other] for other in cited]
        event = self.room.event(event_id, event_type, "a", state_key, {}, auth=auth)
        return Entry(event, ACCEPTED, False, False, False, number, number)

    def between(self, event_ids: frozenset[str]) -> set[str]:
        while True:
            try:
                return between(self.view, event_ids)
            except Lacking as lacking:
                needs = lacking.needs
            assert needs == Needs(between=needs.between)
            known = {need[1:]: self._stored_between(*need[1:]) for need in needs.between}
            self._learn(AuthGraph(between=self.view.auth.between.update(known)))

    def _stored_between(self, tops: Places, bottoms: Places) -> frozenset[str]:
        """As the tables are asked: level by level, by links."""
        links = [
            (p.place.chain_id, p.place.sequence, link.chain_id, link.sequence)
            for p in self.placed.values()
            for link in p.links
        ]
        below, followed = Below(tops), set[tuple[int, int]]()
        while below.wanted:
            found = [x for x in links if x[0] in below.wanted and _lies_above(x[1], below.wanted[x[0]])]
            assert not followed.intersection(x[:2] for x in found), "no link is read twice"
            followed.update(x[:2] for x in found)
            below.add(found)
        ranges = below.above(bottoms)
        return frozenset(
            p.event_id
            for p in self.placed.values()
            if p.place.chain_id in ranges
            and ranges[p.place.chain_id][0] <= p.place.sequence <= ranges[p.place.chain_id][1]
        )

    def mainline(self, event_id: str) -> list[str]:
        at = {p.place: p.event_id for p in self.placed.values()}
        while True:
            try:
                return self._expanded(list(mainlines(self.view, {event_id})[event_id]))
            except Lacking as lacking:
                needs = lacking.needs
            assert needs == Needs(mainlines=needs.mainlines)
            known = {chain: self._goes_on(at[Place(chain, 1)]) for _, chain in needs.mainlines}
            self._learn(AuthGraph(mainlines=self.view.auth.mainlines.update(known)))

    def _expanded(self, runs: list[Run]) -> list[str]:
        at = {p.place: p.event_id for p in self.placed.values()}
        line: list[str] = []
        for chain, sequence in runs:
            if isinstance(chain, int):
                line += [at[Place(chain, number)] for number in range(sequence, 0, -1)]
            else:
                line.append(str(chain))
        return line

    def _goes_on(self, event_id: str) -> Place | None:
        cited = self.levels_cited(event_id)
        return self.placed[cited].place if cited else None

    def levels_cited(self, event_id: str) -> str | None:
        return next((other for other in self.graph[event_id][1] if self.graph[other][0] == POWER_LEVELS), None)

    def _learn(self, found: AuthGraph) -> None:
        auth = self.view.auth
        known = AuthGraph(auth.places, auth.citing, auth.fresh, found.between, found.mainlines)
        self.view = RoomView(ROOM, events=self.view.events, auth=known)


def _lies_above(sequence: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] < sequence <= bounds[1]


graphs = st.tuples(st.integers(0, 2**32), st.integers(2, 40), st.integers(0, 40))


@given(graphs)
def test_between_is_what_is_on_a_path(drawn: tuple[int, int, int]) -> None:
    seed, size, stored = drawn
    rng = Random(seed)
    graph = random_graph(rng, size)
    room = PartlyStored(rng, graph, stored)
    below = {event_id: chain_of(graph, event_id) for event_id in graph}
    for count in (1, 2, 2, 3, 6):
        ends = frozenset(rng.sample(sorted(graph), min(count, size)))
        paths = {other for top in ends for other in below[top] if below[other] & ends or other in ends} | ends
        assert room.between(ends) == paths


def of_one_line(graph: Graph) -> Graph:
    """The same without second power levels among what an event cites: nobody may."""
    rules: Graph = {}
    for event_id, (key, cited) in graph.items():
        levels = [other for other in cited if graph[other][0] == POWER_LEVELS]
        rules[event_id] = key, tuple(other for other in cited if other not in levels[1:])
    return rules


@given(graphs)
def test_a_mainline_is_what_power_levels_lead_back_to(drawn: tuple[int, int, int]) -> None:
    seed, size, stored = drawn
    rng = Random(seed)
    graph = of_one_line(random_graph(rng, size))
    room = PartlyStored(rng, graph, stored)
    for event_id in [event_id for event_id in graph if graph[event_id][0] == POWER_LEVELS]:
        expected: list[str] = []
        current: str | None = event_id
        while current is not None:
            expected.append(current)
            current = room.levels_cited(current)
        assert room.mainline(event_id) == expected


def test_of_each_chain_the_ends_count() -> None:
    places = [Place(7, 2), Place(3, 9), Place(7, 5), Place(7, 4)]
    assert highest(places) == ((3, 9), (7, 5))
    assert lowest(places) == ((3, 9), (7, 2))


def test_a_chain_that_alternates_with_another_is_read_once() -> None:
    """Each of ann's memberships cites the newest power levels, which cite her newest membership."""
    count = 500
    below = Below(((1, count),))
    queries = 0
    while below.wanted:
        queries += 1
        found = []
        for chain, (above, top) in below.wanted.items():
            found += [(chain, n, 3 - chain, n if chain == 1 else n - 1) for n in range(above + 1, top + 1)]
        below.add(link for link in found if link[3] > 0)
    assert queries == 2
    assert below.above(((1, 3),)) == {1: (3, count), 2: (4, count)}
