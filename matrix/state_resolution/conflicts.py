"""Which events a resolution has to look at: the *full conflicted set*.

Most keys of a large room agree, so the sets are compared by id, and events are read only from the conflicted ones
downwards, along their auth events:

    state set 1   ... U ... C1 ──▶ A ──▶ B          U: in every set      A, B: auth events, in no set
    state set 2   ... U ... C2 ────────▶ B

Where a walk meets U it stops: what is below U is in every auth chain. B is below both sets. A is in the *auth
difference*, unless some U reaches it too: only where there is such a candidate are the chains of U asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain

from annals.matrix.events import Event, StateKey
from annals.matrix.state_resolution.source import AuthChainIndex, Reader, Run, Unconflicted, WholeMap

State = Mapping[StateKey, str]

#: How deep the auth difference is walked before an index is asked for all of it: mostly it is not as deep.
LEVELS_WALKED = 4


@dataclass(frozen=True, slots=True)
class Conflicts:
    """The conflicted state set: by event which state sets have it, as a bit mask."""

    masks: Mapping[str, int]
    every_set: int

    @classmethod
    def of(cls, parts: Sequence[State]) -> Conflicts:
        """From the conflicted part of each state set."""
        masks: dict[str, int] = {}
        for bit, part in enumerate(parts):
            for event_id in part.values():
                masks[event_id] = masks.get(event_id, 0) | 1 << bit
        return cls(masks, (1 << len(parts)) - 1)


def separate(state_sets: Sequence[State]) -> tuple[WholeMap, Conflicts]:
    """The unconflicted state map, and what is conflicted.

    "If a given key K is present in every S_i with the same value V in each state map, then the pair (K, V) belongs to
    the unconflicted state map. Otherwise, V belongs to the conflicted state set."

    All sets are compared with the first: between states of one room most is the same.
    """
    first, *others = state_sets
    of_first = first.get
    masks: dict[str, int] = {}
    differing: dict[StateKey, int] = {}
    for number, other in enumerate(others, 1):
        bit = 1 << number
        changed = [key for key, event_id in other.items() if of_first(key) != event_id]
        for key in changed:
            event_id = other[key]
            masks[event_id] = masks.get(event_id, 0) | bit
        if len(first) + sum(key not in first for key in changed) != len(other):
            changed += first.keys() - other.keys()
        for key in changed:
            differing[key] = differing.get(key, 0) | bit
    every_set = (1 << len(state_sets)) - 1
    for key, bits in differing.items():
        if key in first:
            event_id = first[key]
            masks[event_id] = masks.get(event_id, 0) | every_set & ~bits
    agreed = WholeMap((key, event_id) for key, event_id in first.items() if key not in differing)
    return agreed, Conflicts(masks, every_set)


def auth_difference(
    conflicts: Conflicts, unconflicted: Unconflicted, reader: Reader, index: AuthChainIndex
) -> set[str]:
    """The auth difference without the conflicted state set: events below some, but not all of the sets.

    NOTSPEC: a set's own events count as part of its auth chain, as in Synapse. The text takes only what they cite, so
    that a conflicted event that another set's events cite would be in the difference by one reading only; servers in
    the field follow Synapse, and agreeing with them is what a resolution is for.
    """
    reached = _reach(conflicts, unconflicted, reader, index, LEVELS_WALKED)
    if reached is None:
        found = index.difference(conflicts.masks, conflicts.every_set)
        if found is not None:
            return set(found)
        reached = _reach(conflicts, unconflicted, reader, index)
    if reached is None:
        raise AssertionError("a walk without a bound ends")
    masks, everywhere = reached
    candidates = {event_id for event_id, mask in masks.items() if mask != conflicts.every_set}
    candidates -= conflicts.masks.keys()
    # A candidate is below all sets where an event is that is itself in, or below, all sets.
    return candidates - index.in_auth_chains(candidates, everywhere) if candidates and everywhere else candidates


def _reach(
    conflicts: Conflicts,
    unconflicted: Unconflicted,
    reader: Reader,
    index: AuthChainIndex,
    levels_max: int | None = None,
) -> tuple[dict[str, int], set[str]] | None:
    """For the events below conflicted ones: by which sets they are reached, as a bit mask, and which are by all. None
    where the walk is not at its end after so many levels.

    The walk goes no deeper where an event is reached by all sets, or is in or below what they agree on, so that a mask
    may lack bits that come by way of such an event. What is in or below what they agree on has no mask.
    """
    every_set = conflicts.every_set
    masks = dict(conflicts.masks)
    seen, agreed = set(masks), set[str]()
    frontier = {event_id for event_id, mask in masks.items() if mask != every_set}
    levels = 0
    while frontier:
        if levels == levels_max:
            return None
        levels += 1
        reader.load(frontier, with_auth_chains=True)
        unseen = frontier - seen
        keys = {event_id: _key(reader.get(event_id)) for event_id in unseen}
        unconflicted.have(keys.values())
        found = {event_id for event_id, key in keys.items() if unconflicted.get(key) == event_id}
        found |= index.in_auth_chains(unseen - found, frozenset()) if unseen > found else set()
        agreed |= found
        frontier -= found
        seen |= frontier
        # Most events of one set cite the same few others.
        by_mask: dict[int, list[str]] = {}
        for event_id in frontier:
            by_mask.setdefault(masks[event_id], []).append(event_id)
        grown: set[str] = set()
        for mask, event_ids in by_mask.items():
            for cited in reader.all_cited(event_ids):
                before = masks.get(cited, 0)
                after = before | mask
                if after != before and cited not in agreed:
                    masks[cited] = after
                    grown.add(cited)
        frontier = {event_id for event_id in grown if masks[event_id] != every_set}
    masks = {event_id: mask for event_id, mask in masks.items() if event_id not in agreed}
    return masks, {event_id for event_id, mask in masks.items() if mask == every_set}


def _key(event: Event) -> StateKey:
    # What is no state event is in no state: no state has a key like this.
    return event.type, "" if event.state_key is None else event.state_key


class Walk:
    """As an index, by walking: reads the auth chain of all that the sets agree on, unless all is found before."""

    def __init__(self, agreed: Iterable[str], reader: Reader) -> None:
        self._reader = reader
        self._seen = set(agreed)
        self._frontier: AbstractSet[str] = self._seen
        self._found: set[str] = set()

    def in_auth_chains(self, candidates: AbstractSet[str], heads: AbstractSet[str]) -> set[str]:
        """See AuthChainIndex."""
        while self._frontier and not candidates <= self._found:
            self._frontier = self._below(self._frontier) - self._seen
            self._seen |= self._frontier
            self._found |= self._frontier
        found = set(candidates & self._found)
        frontier, seen = heads, set(heads)
        while frontier and len(found) < len(candidates):
            below = self._below(frontier)
            found |= candidates & below
            frontier = below - seen
            seen |= frontier
        return found

    def difference(self, masks: Mapping[str, int], every_set: int) -> None:
        """See AuthChainIndex."""

    def between(self, event_ids: frozenset[str]) -> set[str]:
        """See AuthChainIndex."""
        return conflicted_subgraph(event_ids, self._reader)

    def mainlines(self, event_ids: AbstractSet[str]) -> dict[str, Iterator[Run]]:
        """See AuthChainIndex. Each event is a chain of its own, and read when it is asked for."""
        return {event_id: self._mainline(event_id) for event_id in event_ids}

    def _mainline(self, event_id: str | None) -> Iterator[Run]:
        while event_id is not None:
            yield event_id, 1
            event_id = self._reader.power_levels_of(event_id)

    def _below(self, event_ids: AbstractSet[str]) -> set[str]:
        self._reader.load(event_ids, with_auth_chains=True)
        return set(chain.from_iterable(map(self._reader.cited, event_ids)))


def conflicted_subgraph(conflicted: frozenset[str], reader: Reader) -> set[str]:
    """Every event on a path of `auth_events` from one conflicted event to another, ends included. By walking.

    These are the events below a conflicted one (or one itself) that are also above one.
    """
    citing: dict[str, list[str]] = {event_id: [] for event_id in conflicted}
    frontier: Iterable[str] = conflicted
    while frontier:
        reader.load(frontier, with_auth_chains=True)
        below: list[str] = []
        for event_id in frontier:
            for cited in reader.cited(event_id):
                if cited not in citing:
                    citing[cited] = []
                    below.append(cited)
                citing[cited].append(event_id)
        frontier = below
    subgraph = set(conflicted)
    stack = list(conflicted)
    while stack:
        above = [event_id for event_id in citing[stack.pop()] if event_id not in subgraph]
        subgraph.update(above)
        stack.extend(above)
    return subgraph
