"""The chain cover answers what walking the auth graph answers, in whatever order the events were decided."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from annals.rooms.auth_chains import ChainCover, Citing, Place, Placed, lies_in
from tests.support.auth_graphs import KEYS, chain_of, random_graph, random_order


def above(placed: dict[str, Placed], event_id: str) -> set[str]:
    """What stands above an event by the cover alone: its chain from it on, and the chains that link there."""
    region: dict[int, int] = {}
    todo = [placed[event_id].place]
    while todo:
        place = todo.pop()
        if not lies_in(place, region):
            region[place.chain_id] = place.sequence
            todo += [p.place for p in placed.values() if any(_reaches(link, place) for link in p.links)]
    return {other for other, p in placed.items() if lies_in(p.place, region)} - {event_id}


def _reaches(link: Place, place: Place) -> bool:
    return link.chain_id == place.chain_id and link.sequence >= place.sequence


graphs = st.tuples(st.integers(0, 2**32), st.integers(2, 40))


@given(graphs)
def test_above_is_who_has_it_in_the_auth_chain(drawn: tuple[int, int]) -> None:
    seed, size = drawn
    rng = Random(seed)
    graph = random_graph(rng, size)
    cover, placed = ChainCover(()), dict[str, Placed]()
    for number, event_id in enumerate(random_order(rng, graph)):
        key, cited = graph[event_id]
        placed |= {p.event_id: p for p in cover.add(Citing(event_id, key, cited, 100 + number))}
    assert placed.keys() == graph.keys()
    assert len({p.place for p in placed.values()}) == len(placed), "no two events in one place"
    for event_id in graph:
        expected = {other for other in graph if event_id in chain_of(graph, other)}
        assert above(placed, event_id) == expected


@given(graphs)
def test_however_it_is_cut_the_places_are_the_same(drawn: tuple[int, int]) -> None:
    """Each event by a cover of its own, that knows what the event cites and nothing else."""
    seed, size = drawn
    rng = Random(seed)
    graph = random_graph(rng, size)
    order = random_order(rng, graph)
    whole, stored = ChainCover(()), dict[str, Citing]()
    for number, event_id in enumerate(order):
        key, cited = graph[event_id]
        event = Citing(event_id, key, cited, number)
        (expected,) = whole.add(event)
        tips = {citing.place for citing in stored.values()}
        known = [_with_tip(stored[other], tips) for other in cited]
        assert ChainCover(known).add(event) == [expected]
        stored[event_id] = Citing(event_id, key, cited, number, expected.place)


def _with_tip(event: Citing, places: set[Place | None]) -> Citing:
    assert event.place
    after = Place(event.place.chain_id, event.place.sequence + 1)
    return Citing(event.event_id, event.key, event.cited, event.position, event.place, after in places)


@given(graphs)
def test_a_room_without_index_is_adopted_as_it_would_have_grown(drawn: tuple[int, int]) -> None:
    seed, size = drawn
    rng = Random(seed)
    graph = random_graph(rng, size)
    events = [Citing(e, *graph[e], position) for position, e in enumerate(random_order(rng, graph))]
    grown = ChainCover(())
    expected = [placed for event in events for placed in grown.add(event)]
    shuffled = rng.sample(events, len(events))
    assert ChainCover(shuffled).adopt() == expected


def test_what_cannot_have_a_place_has_none() -> None:
    cover = ChainCover(())
    create = Citing("$c", KEYS[0], (), 1)
    assert [placed.place for placed in cover.add(create)] == [Place(1, 1)]
    assert cover.add(create) == [], "it has one"
    assert cover.add(Citing("$p", KEYS[1], ("$c",), 2, Place(7, 1))) == [], "it came with one"
    assert cover.add(Citing("$x", KEYS[1], ("$c", "$unknown"), 2)) == []
    assert cover.add(Citing("$y", KEYS[1], ("$x",), 3)) == [], "nor has who cites it"
    circle = [
        Citing("$a", KEYS[1], ("$b",), 4),
        Citing("$b", KEYS[1], ("$a", "$c"), 5),
        Citing("$s", KEYS[1], ("$s",), 6),
    ]
    assert ChainCover([*circle, Citing("$c", KEYS[0], (), 1, Place(1, 1))]).adopt() == []


def test_links_lead_to_the_nearest_alone() -> None:
    cover = ChainCover(())
    placed: dict[str, Placed] = {}
    for position, (event_id, key, cited) in enumerate(
        [
            ("$create", KEYS[0], ()),
            ("$levels1", KEYS[1], ("$create",)),
            ("$levels2", KEYS[1], ("$create", "$levels1")),
            ("$ann", KEYS[2], ("$create", "$levels2")),
            ("$bob", KEYS[3], ("$levels1", "$levels2")),
        ]
    ):
        placed |= {p.event_id: p for p in cover.add(Citing(event_id, key, cited, position))}
    assert placed["$levels2"].place == Place(1, 2)
    assert placed["$levels2"].links == (), "it follows $levels1, which leads to the create event"
    assert placed["$ann"].links == placed["$bob"].links == (Place(1, 2),)
