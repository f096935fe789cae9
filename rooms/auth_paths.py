"""Asking the chain cover downwards: which events stand between others, and what power levels lead back to.

    power levels   P1 <- P2 <- ... <- P900     places: chain P1, sequences 1 to 900
                    ^                  ^
    ann's member   A1 <-------------- A2       between A2 and A1: none of them; between P900 and P2: P2 to P900

What is below some places is a part of each chain, from its oldest event up to a sequence number; what is above others,
from a sequence number on. What is between is where the two meet: of each chain a range, without looking at an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from annals.matrix.auth_events import POWER_LEVELS
from annals.matrix.state_resolution import Run
from annals.rooms.ancestors import cited_ids, entries_of
from annals.rooms.auth_chains import Place
from annals.rooms.needs import Link, Needs, Places
from annals.rooms.state import Lacking
from annals.rooms.view import Entry, RoomView


class NotIndexed(Exception):
    """The room has no index yet, or an event has no place in it: its auth chains must be walked."""


def cited_by(entry: Entry) -> tuple[str, ...]:
    """What an event leads to in the auth graph."""
    event = entry.event
    return cited_ids(event.room_id, event.event_id, event.type, event.auth_events, event.rules)


def places_of(view: RoomView, event_ids: AbstractSet[str]) -> dict[str, Place]:
    """Places of events; raises one Lacking for all that are not known, and NotIndexed. What is fresh may have none."""
    unknown = frozenset((view.room_id, other) for other in event_ids if other not in view.auth.places)
    if unknown:
        raise Lacking(Needs(auth_places=unknown))
    places = {}
    for event_id in event_ids:
        place = view.place(event_id)
        if place is not None:
            places[event_id] = place
        elif event_id not in view.auth.fresh:
            raise NotIndexed(event_id)
    return places


def between(view: RoomView, event_ids: frozenset[str]) -> set[str]:
    """See annals.matrix.state_resolution.AuthChainIndex. Raises Lacking, and NotIndexed."""
    fresh = cited_below(view, event_ids)
    above = {other for cited in fresh.values() for other in cited}
    places = places_of(view, event_ids | above)
    tops, bottoms = highest(places.values()), lowest(places[other] for other in event_ids if other in places)
    found = set(event_ids)
    if bottoms:
        try:
            found |= view.auth.between[tops, bottoms]
        except KeyError:
            raise Lacking(Needs(between=frozenset([(view.room_id, tops, bottoms)]))) from None
    citing: dict[str, list[str]] = {}
    for event_id, cited in fresh.items():
        for other in cited:
            citing.setdefault(other, []).append(event_id)
    stack = [event_id for event_id in citing if event_id in found]
    while stack:
        # All that is fresh here is below one of the events: it stands between if it leads to one.
        grown = [event_id for event_id in citing.get(stack.pop(), ()) if event_id not in found]
        found.update(grown)
        stack += grown
    return found


def cited_below(view: RoomView, event_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Of these events and what is below them, those that are not in the index yet, with what they cite."""
    fresh, found = view.auth.fresh, dict[str, tuple[str, ...]]()
    stack = list(event_ids)
    while stack:
        event_id = stack.pop()
        if event_id not in found and event_id in fresh:
            found[event_id] = cited_by(fresh[event_id])
            stack += found[event_id]
    return found


def mainlines(view: RoomView, event_ids: AbstractSet[str]) -> dict[str, Iterator[Run]]:
    """See annals.matrix.state_resolution.AuthChainIndex. Raises Lacking, and NotIndexed; so do the iterators."""
    places = places_of(view, event_ids)
    known = view.auth.mainlines
    unknown = {place.chain_id for place in places.values() if place.chain_id not in known}
    if unknown:
        raise Lacking(Needs(mainlines=frozenset((view.room_id, chain_id) for chain_id in unknown)))
    return {event_id: _mainline(view, event_id) for event_id in event_ids}


def _mainline(view: RoomView, newest: str) -> Iterator[Run]:
    event_id: str | None = newest
    while event_id is not None:
        places = places_of(view, {event_id})
        if places:
            yield from _runs(view, places[event_id])
            return
        yield event_id, 1
        cited = entries_of(view, view.auth.fresh[event_id].event.auth_events)
        event_id = next((entry.event.event_id for entry in cited if _are_levels(entry)), None)


def _are_levels(entry: Entry) -> bool:
    return (entry.event.type, entry.event.state_key) == POWER_LEVELS


def _runs(view: RoomView, newest: Place) -> Iterator[Run]:
    """Nobody may cite two power levels (rule 2.1), so one that follows another in its chain cites that one alone."""
    place: Place | None = newest
    while place is not None:
        chain_id = place.chain_id
        yield chain_id, place.sequence
        if chain_id not in view.auth.mainlines:
            raise Lacking(Needs(mainlines=frozenset([(view.room_id, chain_id)])))
        place = view.auth.mainlines[chain_id]


def highest(places: Iterable[Place]) -> Places:
    """Of each chain the newest of these."""
    return tuple(sorted({p.chain_id: p.sequence for p in sorted(places, key=_by_sequence)}.items()))


def lowest(places: Iterable[Place]) -> Places:
    """Of each chain the oldest of these."""
    return tuple(sorted({p.chain_id: p.sequence for p in sorted(places, key=_by_sequence, reverse=True)}.items()))


def _by_sequence(place: Place) -> int:
    return place.sequence


class Below:
    """What is below some places, found level by level: `add` the links of `wanted` until there are none."""

    def __init__(self, tops: Places) -> None:
        self.highest: dict[int, int] = {}
        """By chain that is reached: up to which sequence number."""
        self.links: list[Link] = []
        self.wanted: dict[int, tuple[int, int]] = {}
        """By chain: the links above and up to these sequence numbers have not been followed."""
        self._raise(dict(tops))

    def add(self, links: Iterable[Link]) -> None:
        """All links of `wanted`."""
        reached: dict[int, int] = {}
        for link in links:
            self.links.append(link)
            reached[link[2]] = max(link[3], reached.get(link[2], 0))
        self._raise(reached)

    def _raise(self, reached: Mapping[int, int]) -> None:
        known = self.highest
        self.wanted = {chain: (known.get(chain, 0), top) for chain, top in reached.items() if top > known.get(chain, 0)}
        known.update((chain, top) for chain, (_, top) in self.wanted.items())

    def above(self, bottoms: Places) -> dict[int, tuple[int, int]]:
        """Of each chain what is also above `bottoms`, these included: its lowest and highest sequence number."""
        to: dict[int, list[tuple[int, int, int]]] = {}
        for chain, sequence, to_chain, to_sequence in self.links:
            to.setdefault(to_chain, []).append((to_sequence, chain, sequence))
        for links in to.values():
            links.sort()
        reaching = {chain: low for chain, low in bottoms if low <= self.highest.get(chain, 0)}
        stack = list(reaching)
        while stack:
            target = stack.pop()
            links, low = to.get(target, []), reaching[target]
            # A link that was followed never tells more.
            while links and links[-1][0] >= low:
                _, chain, sequence = links.pop()
                if sequence < reaching.get(chain, sequence + 1):
                    reaching[chain] = sequence
                    stack.append(chain)
        return {chain: (low, self.highest[chain]) for chain, low in reaching.items()}
