"""Room states as persistent values, and the skip deltas in which they are stored.

A state is stored as its difference from an older one of its line: the state at depth d (d counts state changes) from
the one at d - 8^k, 8^k being the largest power of 8, at most 8^4, that divides d. So a change costs about log8(n) rows,
a read follows a short chain, and no full copy is ever written:

    depth  0 <- 1 <- 2 <- ... <- 7      8 -> 0     9 -> 8 ...     64 -> 0     65 -> 64

In memory a state may be partial: it has the keys that were asked for, and says where the others are to be had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from immutables import Map

from annals.matrix.events import StateKey
from annals.matrix.quick import quick
from annals.rooms.fingerprint import EMPTY_SUM, changed_sum, sum_bytes
from annals.rooms.needs import Needs, StoredState
from annals.schemas.facts.decisions import StateEntry, StateMade

SKIP_BASE = 8
SKIP_POWER_MAX = 4
EMPTY_STATE_ID = 0
_ROOT_CHANGES_KEPT = 500

Entries = Map[StateKey, str | None]


class Lacking(Exception):
    """The view lacks something; `decide` turns this into its answer."""

    def __init__(self, needs: Needs) -> None:
        super().__init__(needs)
        self.needs = needs


@dataclass(frozen=True, slots=True)
class Link:
    """A stored state in the line of a younger one; `changes` is its stored delta, None where it is not loaded."""

    state_id: int
    depth: int
    changes: Mapping[StateKey, str | None] | None
    base: Link | None


@quick
@dataclass(frozen=True, slots=True)
class RoomState:
    """The state map of a room, or the part of it that is known.

    `known` maps keys to event ids (None: certainly not set). Keys that are not in it are, unless the state is
    `complete`, those of the stored state `stored_id`. `parent_id` is the state that this one directly follows, and
    `changed` the keys in which it differs from that one (old event, new event), where they are known.
    """

    room_id: str
    state_id: int
    depth: int
    element_sum: int
    known: Entries
    complete: bool
    stored_id: int
    link: Link | None = field(repr=False)
    parent_id: int | None = None
    changed: Mapping[StateKey, tuple[str | None, str | None]] = field(default_factory=dict, repr=False)

    def get(self, key: StateKey) -> str | None:
        """The event that holds `key`; raises Lacking where that is not known."""
        try:
            return self.known[key]
        except KeyError:
            if self.complete:
                return None
        raise Lacking(Needs(state_keys=frozenset([(self.room_id, self.stored_id, *key)])))

    def held(self, keys: Iterable[StateKey]) -> dict[StateKey, str]:
        """The events that hold these keys; raises one Lacking for all that are not known."""
        known, found = self.known, {}
        for key in keys:
            try:
                event_id = known[key]
            except KeyError:
                if self.complete:
                    continue
                have_keys([self], keys)
                raise
            if event_id is not None:
                found[key] = event_id
        return found

    def lacks(self, key: StateKey) -> bool:
        """Whether `get` would raise."""
        return not self.complete and key not in self.known

    def entries(self) -> dict[StateKey, str]:
        """The whole map; raises Lacking where only a part is known."""
        if not self.complete:
            raise Lacking(Needs(whole_states=frozenset([(self.room_id, self.stored_id)])))
        return {key: event_id for key, event_id in self.known.items() if event_id is not None}

    def learn_keys(self, found: Mapping[StateKey, str | None]) -> RoomState:
        """The same state with more of it known; what is known already stands (it may be younger than the stored)."""
        return replace(self, known=self.known.update({key: e for key, e in found.items() if key not in self.known}))

    def learn_whole(self, stored: Mapping[StateKey, str]) -> RoomState:
        """The same state with all of it known."""
        return replace(self.learn_keys(dict(stored)), complete=True)


def empty_state(room_id: str) -> RoomState:
    """The state before a create event."""
    return RoomState(room_id, EMPTY_STATE_ID, 0, EMPTY_SUM, Map(), True, EMPTY_STATE_ID, None)


def stored_state(room_id: str, stored: StoredState, element_sum: int) -> RoomState:
    """A state of which only the frame is loaded."""
    link: Link | None = None
    for state_id, depth in reversed(((stored.state_id, stored.depth), *stored.chain)):
        link = Link(state_id, depth, None, link)
    return RoomState(room_id, stored.state_id, stored.depth, element_sum, Map(), False, stored.state_id, link)


def root_state(room_id: str, entries: Mapping[StateKey, str], state_id: int) -> tuple[RoomState, StateMade]:
    """A whole state as the first one of a line, at depth 0: all that follow it lead to it, and none copies it."""
    total = EMPTY_SUM
    for key, event_id in entries.items():
        total = changed_sum(total, key, None, event_id)
    made = RoomState(
        room_id=room_id,
        state_id=state_id,
        depth=0,
        element_sum=total,
        known=Map(entries),
        complete=True,
        stored_id=EMPTY_STATE_ID,
        link=Link(state_id, 0, dict(entries), None),
    )
    ordered = tuple(StateEntry(t, k, entries[(t, k)]) for t, k in sorted(entries))
    return made, StateMade(state_id, None, 0, ordered, sum_bytes(total))


def without_large_changes(state: RoomState) -> RoomState:
    """The state without the stored delta of a root that is large: it is seldom asked for, and can be loaded."""
    line = list(_line(state.link, -1))
    if not line or line[-1].changes is None or len(line[-1].changes) <= _ROOT_CHANGES_KEPT:
        return state
    link: Link | None = None
    for step in reversed(line):
        link = Link(step.state_id, step.depth, step.changes if step is not line[-1] else None, link)
    return replace(state, link=link)


def with_changes(state: RoomState, delta: Mapping[StateKey, str | None], state_id: int) -> tuple[RoomState, StateMade]:
    """The state that follows `state` by `delta`, under `state_id`, and the record by which it is stored."""
    depth = state.depth + 1
    _have_for_change(state, depth, delta)
    before = {key: state.get(key) for key in delta}
    changed = {key: (before[key], event_id) for key, event_id in delta.items() if before[key] != event_id}
    base, stored_delta = _skip(state, depth, delta)
    total = sum_after(state, delta)
    made = RoomState(
        room_id=state.room_id,
        state_id=state_id,
        depth=depth,
        element_sum=total,
        known=state.known.update(delta),
        complete=state.complete,
        stored_id=state.stored_id,
        link=Link(state_id, depth, stored_delta, base),
        parent_id=state.state_id,
        changed=changed,
    )
    entries = tuple(StateEntry(t, k, stored_delta[(t, k)]) for t, k in sorted(stored_delta))
    return made, StateMade(state_id, base.state_id if base else None, depth, entries, sum_bytes(total))


def sum_after(state: RoomState, delta: Mapping[StateKey, str | None]) -> int:
    """The fingerprint's sum of the state that follows `state` by `delta`."""
    total = state.element_sum
    for key, event_id in delta.items():
        total = changed_sum(total, key, state.get(key), event_id)
    return total


def _have_for_change(state: RoomState, depth: int, delta: Mapping[StateKey, str | None]) -> None:
    """One Lacking for all that a change of the state reads."""
    keys = frozenset((state.room_id, state.stored_id, *key) for key in delta if state.lacks(key))
    line = _line(state.link, base_depth(depth))
    changes = frozenset((state.room_id, link.state_id) for link in line if link.changes is None)
    if keys or changes:
        raise Lacking(Needs(state_keys=keys, changes=changes))


def base_depth(depth: int) -> int:
    """The depth of the state from which the one at `depth` is stored as a difference."""
    power = 1
    while power < SKIP_BASE**SKIP_POWER_MAX and depth % (power * SKIP_BASE) == 0:
        power *= SKIP_BASE
    return depth - power


def _skip(
    parent: RoomState, depth: int, delta: Mapping[StateKey, str | None]
) -> tuple[Link | None, Mapping[StateKey, str | None]]:
    """The base of a state at `depth`, and its difference from that; the youngest change of a key counts."""
    target = base_depth(depth)
    changes = dict(delta)
    base = parent.link
    while base is not None and base.depth > target:
        for key, event_id in (base.changes or {}).items():
            changes.setdefault(key, event_id)
        base = base.base
    return base, changes


def _line(link: Link | None, above: int) -> Iterator[Link]:
    while link is not None and link.depth > above:
        yield link
        link = link.base


def known_changes(states: Iterable[RoomState]) -> dict[int, Mapping[StateKey, str | None]]:
    """The stored deltas that are loaded, by state id."""
    lines = (link for state in states for link in _line(state.link, -1))
    return {link.state_id: link.changes for link in lines if link.changes is not None}


def learn_changes(state: RoomState, found: Mapping[int, Mapping[StateKey, str | None]]) -> RoomState:
    """The same state with the stored deltas `found`, by state id, in its line."""
    return replace(state, link=_learned_link(state.link, found))


def _learned_link(link: Link | None, found: Mapping[int, Mapping[StateKey, str | None]]) -> Link | None:
    line = list(_line(link, -1))
    if not any(step.changes is None and step.state_id in found for step in line):
        return link
    learned: Link | None = None
    for step in reversed(line):
        changes = step.changes if step.changes is not None else found.get(step.state_id)
        learned = Link(step.state_id, step.depth, changes, learned)
    return learned


def have_keys(states: Sequence[RoomState], keys: Iterable[StateKey]) -> None:
    """Raises one Lacking for all that is not known of these keys."""
    keys = list(keys)
    unknown = frozenset((state.room_id, state.stored_id, *key) for state in states for key in keys if state.lacks(key))
    if unknown:
        raise Lacking(Needs(state_keys=unknown))


def keys_changed_since_common(states: Sequence[RoomState]) -> set[StateKey]:
    """The keys in which states may differ: those of the stored deltas down to where their lines meet.

    As long as what happened since, whatever the size of the states.
    """
    lines = [{link.state_id: link for link in _line(state.link, -1)} for state in states]
    shared = set(lines[0]).intersection(*lines[1:])
    own = {link.state_id: link for line in lines for link in line.values() if link.state_id not in shared}
    unknown = frozenset((states[0].room_id, state_id) for state_id, link in own.items() if link.changes is None)
    if unknown:
        raise Lacking(Needs(changes=unknown))
    return {key for link in own.values() for key in link.changes or ()}


def conflicts(states: Sequence[RoomState]) -> list[dict[StateKey, str]]:
    """Of each state what it has for the keys in which they differ."""
    keys = sorted(keys_changed_since_common(states))
    have_keys(states, keys)
    columns = {key: [state.get(key) for state in states] for key in keys}
    differing = {key: column for key, column in columns.items() if any(other != column[0] for other in column)}
    return [
        {key: event_id for key, column in differing.items() if (event_id := column[index]) is not None}
        for index in range(len(states))
    ]


def difference(old: RoomState, new: RoomState) -> dict[StateKey, tuple[str | None, str | None]]:
    """The keys in which two states differ: (old event, new event)."""
    if old.state_id == new.state_id or old.element_sum == new.element_sum:
        return {}
    if old.state_id == EMPTY_STATE_ID and new.complete:
        return {key: (None, event_id) for key, event_id in new.entries().items()}
    before, after = conflicts([old, new])
    return {key: (before.get(key), after.get(key)) for key in before.keys() | after.keys()}
