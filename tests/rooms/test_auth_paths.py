"""What stands between events, and mainlines: the chain cover and what is not in it yet answer as the definition."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.auth_events import POWER_LEVELS
from annals.rooms.auth_chains import Place
from annals.rooms.auth_paths import Below, highest, lowest
from tests.support.auth_graphs import Graph, PartlyStored, chain_of, random_graph

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
