"""Orders and connections among events of an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from annals.ingest.fetchers.graph import by_auth, by_prev, ordered, reached, well_founded
from annals.matrix.events import Event, event_of
from annals.matrix.room_versions import ROOM_VERSIONS

Graph = Mapping[str, Sequence[str]]


def events(graph: Graph) -> dict[str, Event]:
    """Events by name, each with these prev_events and auth_events."""
    return {
        name: event_of(
            {
                "type": "m.test",
                "room_id": "!r:a",
                "sender": "@a:a",
                "content": {},
                "prev_events": list(others),
                "auth_events": list(others),
                "depth": 1,
                "origin_server_ts": 1,
            },
            ROOM_VERSIONS["10"],
            name,
        )
        for name, others in graph.items()
    }


#: Any graph over few names, circles and unknown names included.
graphs = st.dictionaries(st.sampled_from("abcdefg"), st.lists(st.sampled_from("abcdefgxy"), unique=True, max_size=4))


@given(graphs)
def test_order_puts_each_behind_what_it_leads_to(graph: Graph) -> None:
    made = events(graph)
    order = [event.event_id for event in ordered(made.values(), by_prev)]
    assert len(order) == len(set(order))
    for place, name in enumerate(order):
        assert {other for other in graph[name] if other in graph} <= set(order[:place])
    # What is left out leads into a circle.
    for name in graph.keys() - set(order):
        assert any(other in graph and other not in order for other in graph[name])


@given(graphs, st.lists(st.sampled_from("abcdefgxy"), max_size=3), st.integers(0, 8))
def test_reached_is_bounded_and_connected(graph: Graph, starts: list[str], limit: int) -> None:
    found = [event.event_id for event in reached(events(graph), starts, limit)]
    assert len(found) == len(set(found)) <= limit
    for place, name in enumerate(found):
        assert name in starts or any(name in graph[other] for other in found[:place])
    if limit == 8:
        assert {name for name in starts if name in graph} <= set(found)
        assert {other for name in found for other in graph[name] if other in graph} <= set(found)


@given(graphs, st.sets(st.sampled_from("abcdefgxy")))
def test_well_founded_stands_on_what_is_here(graph: Graph, here: set[str]) -> None:
    kept = [event.event_id for event in well_founded(events(graph).values(), here)]
    for place, name in enumerate(kept):
        assert set(graph[name]) <= here | set(kept[:place])


def test_a_long_chain_is_walked_without_recursion() -> None:
    graph = {str(number): [str(number - 1)] for number in range(1, 20_000)}
    made = events(graph)
    assert len(ordered(made.values(), by_auth)) == len(graph)
    assert len(reached(made, ["19999"], 20_000)) == len(graph)
