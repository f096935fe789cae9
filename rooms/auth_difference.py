"""The auth difference of states that stand far apart, by ranges of chains: nothing is walked.

Of each chain, each state reaches a part from its oldest event up. What some reach, but not all, is a range; and of this
range what all agree on leads to is again a part from its oldest event up, so that its end is found by few questions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING

from annals.matrix.events import StateKey
from annals.rooms.auth_chains import Place
from annals.rooms.auth_paths import Below, cited_below, highest, places_of
from annals.rooms.needs import ChainsBelow, Link, Needs, Places, Range
from annals.rooms.state import Lacking
from annals.rooms.view import RoomView

if TYPE_CHECKING:
    from annals.rooms.auth_index import ChainIndex

_PROBES = 8


class FarDifference:
    """One resolution's. `index` answers whether what all agree on leads to an event or a place."""

    def __init__(self, index: ChainIndex, masks: Mapping[str, int], every_set: int) -> None:
        self._index = index
        self._view: RoomView = index.view
        self._masks = masks
        self._every_set = every_set
        self._fresh: dict[str, int] = {}
        self._conflicted: set[Place] = set()

    def find(self) -> set[str]:
        """See annals.matrix.state_resolution.AuthChainIndex.difference. Raises Lacking, and NotIndexed."""
        tops = self._tops()
        merged = highest(Place(*place) for of_set in tops for place in of_set)
        try:
            below = self._view.auth.below[merged]
        except KeyError:
            raise Lacking(Needs(below=frozenset([(self._view.room_id, merged)]))) from None
        ranges = self._without_agreed(self._in_some(tops, below), below)
        found = self._fresh_in_some()
        if ranges:
            try:
                found |= self._view.auth.ranges[ranges]
            except KeyError:
                raise Lacking(Needs(ranges=frozenset([(self._view.room_id, ranges)]))) from None
        return found - self._masks.keys()

    def _tops(self) -> list[Places]:
        """Of each set, what is highest in the index of what it reaches. Notes what is not in the index."""
        names: list[set[str]] = []
        for bit in range(self._every_set.bit_length()):
            own = {event_id for event_id, mask in self._masks.items() if mask >> bit & 1}
            fresh = cited_below(self._view, own)
            for event_id in fresh:
                self._fresh[event_id] = self._fresh.get(event_id, 0) | 1 << bit
            names.append(own.union(*fresh.values()))
        places = places_of(self._view, set().union(*names))
        # What is in the index too is found there, with all that leads to it.
        self._fresh = {event_id: mask for event_id, mask in self._fresh.items() if event_id not in places}
        self._conflicted = {place for event_id in self._masks if (place := places.get(event_id)) is not None}
        return [highest(places[name] for name in own if name in places) for own in names]

    def _in_some(self, tops: Iterable[Places], below: ChainsBelow) -> list[Range]:
        """What is below some sets, and not below all: (chain, lowest, highest). Conflicted ends are left out."""
        by_chain: dict[int, list[Link]] = {}
        for link in below.links:
            by_chain.setdefault(link[0], []).append(link)
        for links in by_chain.values():
            links.sort(key=itemgetter(1))
        reached = [_reached(by_chain, of_set) for of_set in tops]
        found: list[Range] = []
        for chain in sorted(set().union(*reached)):
            ends = [of_set.get(chain, 0) for of_set in reached]
            low, high = min(ends) + 1, max(ends)
            while low <= high and Place(chain, low) in self._conflicted:
                low += 1
            while low <= high and Place(chain, high) in self._conflicted:
                high -= 1
            if low <= high:
                found.append((chain, low, high))
        return found

    def _without_agreed(self, ranges: Iterable[Range], below: ChainsBelow) -> tuple[Range, ...]:
        found: list[Range] = []
        needs = Needs()
        for chain, low, high in ranges:
            try:
                first = self._first_beside(chain, below.keys[chain], low, high)
            except Lacking as lacking:
                needs |= lacking.needs
                continue
            if first <= high:
                found.append((chain, first, high))
        if needs:
            raise Lacking(needs)
        return tuple(found)

    def _first_beside(self, chain: int, key: StateKey, low: int, high: int) -> int:
        """From where on what all agree on does not lead to the events of a range."""
        led_to = self._ask(chain, key, {low, high})
        if led_to[high]:
            return high + 1
        if not led_to[low]:
            return low
        while high - low > 1:
            step = max(1, (high - low) // _PROBES)
            led_to = self._ask(chain, key, set(range(low + step, high, step)))
            low = max([low, *(sequence for sequence, is_led_to in led_to.items() if is_led_to)])
            high = min([high, *(sequence for sequence, is_led_to in led_to.items() if not is_led_to)])
        return high

    def _ask(self, chain: int, key: StateKey, sequences: set[int]) -> dict[int, bool]:
        """Whether what all agree on is one of these, or leads to it; raises one Lacking for all."""
        found: dict[int, bool] = {}
        needs = Needs()
        for sequence in sorted(sequences):
            try:
                found[sequence] = self._index.is_agreed_above(Place(chain, sequence), key)
            except Lacking as lacking:
                needs |= lacking.needs
        if needs:
            raise Lacking(needs)
        return found

    def _fresh_in_some(self) -> set[str]:
        some = {event_id for event_id, mask in self._fresh.items() if mask != self._every_set} - self._masks.keys()
        fresh, agreed = self._view.auth.fresh, self._index.agreed
        agreed.have(fresh[event_id].event.key for event_id in some)
        some = {event_id for event_id in some if agreed.get(fresh[event_id].event.key) != event_id}
        return some - self._index.in_auth_chains(some, frozenset()) if some else some


def _reached(by_chain: Mapping[int, list[Link]], tops: Places) -> dict[int, int]:
    """By chain, up to which sequence number it is below these."""
    below = Below(tops)
    while below.wanted:
        links: list[Link] = []
        for chain, (above, top) in below.wanted.items():
            of_chain = by_chain.get(chain, [])
            start = bisect_right(of_chain, above, key=itemgetter(1))
            links += of_chain[start : bisect_right(of_chain, top, key=itemgetter(1))]
        below.add(links)
    return below.highest
