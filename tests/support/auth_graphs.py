"""Auth graphs made by chance, what holds in them by the definition, and views that know a part of them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from immutables import Map

from annals.matrix.auth_events import POWER_LEVELS
from annals.matrix.state_resolution import Run
from annals.rooms.auth_chains import ChainCover, Citing, Place, Placed
from annals.rooms.auth_paths import Below, between, mainlines
from annals.rooms.needs import ChainsBelow, Link, Needs, Places
from annals.rooms.state import Lacking
from annals.rooms.view import ACCEPTED, AuthGraph, Entry, RoomView
from tests.support.room_events import RoomEvents

Graph = dict[str, tuple[tuple[str, str], tuple[str, ...]]]
Answer = TypeVar("Answer")
ROOM = "!room"

KEYS = [("m.room.create", ""), ("m.room.power_levels", ""), *(("m.room.member", f"@{name}:a") for name in "abcd")]


def random_graph(rng: Random, size: int) -> dict[str, tuple[tuple[str, str], tuple[str, ...]]]:
    """By event id its key and what it cites: any earlier events, several of a key, some twice as deep as others."""
    graph: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {"$0": (KEYS[0], ())}
    for number in range(1, size):
        recent = list(graph)[-rng.choice([3, 8, size]) :]
        cited = tuple(dict.fromkeys(rng.choices(recent, k=rng.randrange(1, 5))))
        graph[f"${number}"] = (rng.choice(KEYS[1:]), cited)
    return graph


def random_order(rng: Random, graph: dict[str, tuple[tuple[str, str], tuple[str, ...]]]) -> list[str]:
    """Any order in which everything comes after what it cites."""
    ordered: list[str] = []
    left = set(graph)
    while left:
        ready = sorted(event_id for event_id in left if not left & set(graph[event_id][1]))
        ordered.append(rng.choice(ready))
        left.discard(ordered[-1])
    return ordered


def chain_of(graph: dict[str, tuple[tuple[str, str], tuple[str, ...]]], event_id: str) -> set[str]:
    found: set[str] = set()
    todo = list(graph[event_id][1])
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo.extend(graph[current][1])
    return found


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
        # Some that are there were decided about again.
        again = [event_id for event_id in order[:stored] if rng.random() < 0.1]
        fresh = {event_id: entries[event_id] for event_id in (*again, *order[stored:])}
        self.view = RoomView(ROOM, events=Map(entries), auth=AuthGraph(Map(places), Map(), Map(fresh)))

    def _entry(self, event_id: str, number: int) -> Entry:
        (event_type, state_key), cited = self.graph[event_id]
        auth = [self.room.events[other] for other in cited]
        event = self.room.event(event_id, event_type, "a", state_key, {}, auth=auth)
        return Entry(event, ACCEPTED, False, False, False, number, number)

    def between(self, event_ids: frozenset[str]) -> set[str]:
        """What the view and the tables say of that."""
        return self.answered(lambda view: between(view, event_ids))

    def mainline(self, event_id: str) -> list[str]:
        """Its events, newest first, as the view and the tables have it."""
        return self._expanded(self.answered(lambda view: list(mainlines(view, {event_id})[event_id])))

    def answered(self, ask: Callable[[RoomView], Answer]) -> Answer:
        """Ask a view, load what it lacks, ask again."""
        while True:
            try:
                return ask(self.view)
            except Lacking as lacking:
                needs = lacking.needs
            auth, at = self.view.auth, {p.place: p.event_id for p in self.placed.values()}
            named = Needs(between=needs.between, mainlines=needs.mainlines, below=needs.below, ranges=needs.ranges)
            assert needs == named
            known = {chain: self._goes_on(at[Place(chain, 1)]) for _, chain in needs.mainlines}
            learned = AuthGraph(
                auth.places,
                auth.citing,
                auth.fresh,
                auth.between.update({need[1:]: self._stored_between(*need[1:]) for need in needs.between}),
                auth.mainlines.update(known),
                auth.below.update({tops: self._chains_below(tops) for _, tops in needs.below}),
                auth.ranges.update({ranges: self._in_ranges(dict(_by_chain(ranges))) for _, ranges in needs.ranges}),
            )
            assert learned != auth, "asked twice"
            self.view = RoomView(ROOM, events=self.view.events, auth=learned)

    def _follow(self, tops: Places) -> Below:
        """As the tables are asked: level by level, by links."""
        links: list[Link] = [
            (p.place.chain_id, p.place.sequence, link.chain_id, link.sequence)
            for p in self.placed.values()
            for link in p.links
        ]
        below, followed = Below(tops), set[Link]()
        while below.wanted:
            found = [x for x in links if x[0] in below.wanted and _lies_above(x[1], below.wanted[x[0]])]
            assert not followed.intersection(found), "no link is read twice"
            followed.update(found)
            below.add(found)
        return below

    def _stored_between(self, tops: Places, bottoms: Places) -> frozenset[str]:
        return self._in_ranges(self._follow(tops).above(bottoms))

    def _chains_below(self, tops: Places) -> ChainsBelow:
        keys = {p.place.chain_id: p.key for p in self.placed.values()}
        return ChainsBelow(tuple(self._follow(tops).links), {chain: (k[0], str(k[1])) for chain, k in keys.items()})

    def _in_ranges(self, ranges: dict[int, tuple[int, int]]) -> frozenset[str]:
        placed = ((p.event_id, p.place, ranges.get(p.place.chain_id, (0, -1))) for p in self.placed.values())
        return frozenset(event_id for event_id, place, (low, high) in placed if low <= place.sequence <= high)

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


def _by_chain(ranges: tuple[tuple[int, int, int], ...]) -> list[tuple[int, tuple[int, int]]]:
    return [(chain, (low, high)) for chain, low, high in ranges]


def _lies_above(sequence: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] < sequence <= bounds[1]
