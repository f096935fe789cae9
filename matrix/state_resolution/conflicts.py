"""Which events a resolution has to look at: the *full conflicted set*.

Most keys of a large room agree, so the sets are compared by id, and events are read only from the conflicted ones
downwards, along their auth events:

    state set 1   ... U ... C1 ──▶ A ──▶ B          U: in every set      A, B: auth events, in no set
    state set 2   ... U ... C2 ────────▶ B

Where a walk meets U it stops: what is below U is in every auth chain. B is below both sets. A is in the *auth
difference*, unless some U reaches it too: only where there is such a candidate are the chains of U asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain

from annals.matrix.events import StateKey
from annals.matrix.state_resolution.source import AuthChainIndex, Reader

State = Mapping[StateKey, str]


def separate(state_sets: Sequence[State]) -> tuple[dict[StateKey, str], frozenset[str]]:
    """The unconflicted state map, and the ids of the conflicted state set.

    "If a given key K is present in every S_i with the same value V in each state map, then the pair (K, V) belongs to
    the unconflicted state map. Otherwise, V belongs to the conflicted state set."
    """
    first, *others = state_sets
    unconflicted = dict(first.items())
    for other in others:
        unconflicted = {key: event_id for key, event_id in unconflicted.items() if other.get(key) == event_id}
    conflicted = frozenset(
        event_id for state_set in state_sets for key, event_id in state_set.items() if key not in unconflicted
    )
    return unconflicted, conflicted


def auth_difference(
    state_sets: Sequence[State],
    common: frozenset[str],
    conflicted: frozenset[str],
    reader: Reader,
    index: AuthChainIndex | None,
) -> set[str]:
    """The auth difference without the conflicted state set: events below some, but not all of the sets.

    NOTSPEC: a set's own events count as part of its auth chain, as in Synapse. The text takes only what they cite, so
    that a conflicted event that another set's events cite would be in the difference by one reading only; servers in
    the field follow Synapse, and agreeing with them is what a resolution is for. `common`: ids that are in every set.
    """
    masks, everywhere = _reach(state_sets, common, conflicted, reader)
    every_set = (1 << len(state_sets)) - 1
    candidates = {event_id for event_id, mask in masks.items() if mask != every_set} - conflicted
    if not candidates:
        return candidates
    # A candidate is below all sets where an event is that is itself in, or below, all sets.
    heads = everywhere | common
    if index is None:
        return candidates - _walk_in_auth_chains(candidates, heads, reader)
    return candidates - index.in_auth_chains(candidates, heads)


def _reach(
    state_sets: Sequence[State], common: frozenset[str], conflicted: frozenset[str], reader: Reader
) -> tuple[dict[str, int], set[str]]:
    """For the events below conflicted ones: by which sets they are reached, as a bit mask, and which are by all.

    The walk goes no deeper where an event is reached by all sets, so that a mask may lack bits that come by way of
    such an event.
    """
    every_set = (1 << len(state_sets)) - 1
    masks: dict[str, int] = {}
    for bit, state_set in enumerate(state_sets):
        for event_id in conflicted.intersection(state_set.values()):
            masks[event_id] = masks.get(event_id, 0) | 1 << bit
    frontier = {event_id for event_id, mask in masks.items() if mask != every_set}
    while frontier:
        reader.load(frontier, with_auth_chains=True)
        grown: set[str] = set()
        for event_id in frontier:
            for cited in reader.cited(event_id):
                before = masks.get(cited, 0)
                after = before | masks[event_id]
                if after != before and cited not in common:
                    masks[cited] = after
                    grown.add(cited)
        frontier = {event_id for event_id in grown if masks[event_id] != every_set}
    return masks, {event_id for event_id, mask in masks.items() if mask == every_set}


def _walk_in_auth_chains(candidates: AbstractSet[str], heads: AbstractSet[str], reader: Reader) -> set[str]:
    """As `AuthChainIndex.in_auth_chains`, by walking: reads the whole auth chain unless all are found before."""
    found: set[str] = set()
    seen = set(heads)
    frontier: AbstractSet[str] = heads
    while frontier and len(found) < len(candidates):
        reader.load(frontier, with_auth_chains=True)
        frontier = set(chain.from_iterable(map(reader.cited, frontier))) - seen
        seen |= frontier
        found |= candidates & frontier
    return found


def conflicted_subgraph(conflicted: frozenset[str], reader: Reader) -> set[str]:
    """Version 12: every event on a path of `auth_events` from one conflicted event to another, ends included.

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
