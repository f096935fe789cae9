"""State resolution v1 (rooms/v1): the keys that conflict are decided group by group, each by depth.

Known to reset rooms to older states, which is why version 2 replaced it. No auth chain is walked.

The text leaves open what "the list" of conflicting events is. As in Synapse, and all who followed it: there is one for
each key, and what one key of a group came to does not authorise another of the same group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha1

from annals.matrix.auth_events import JOIN_RULES, POWER_LEVELS, auth_types_for
from annals.matrix.auth_rules import allowed
from annals.matrix.events import Event, StateKey
from annals.matrix.state_resolution.source import EventSource, Reader

State = Mapping[StateKey, str]
_DECIDED_FIRST = (POWER_LEVELS[0], JOIN_RULES[0], "m.room.member")


def resolve_v1(state_sets: Sequence[State], events: EventSource) -> dict[StateKey, str]:
    """The resolution of at least two states; see `resolve`."""
    reader = Reader(events)
    resolved, conflicts = _separate(state_sets)
    usable = _usable(conflicts, reader)
    candidates = {key: rivals for key, rivals in usable.items() if len(rivals) > 1}
    # "Start by setting R to the union of the states to be resolved, excluding any conflicting events."
    passes = _Passes({key: resolved[key] for key in _cited_keys(candidates) if key in resolved}, reader)
    # "First we resolve conflicts between m.room.power_levels events"; "Repeat the above process for conflicts between
    # m.room.join_rules events", "... m.room.member events".
    # NOTSPEC: of the power levels only those with an empty state key, as in Synapse; nothing reads the others.
    for event_type in _DECIDED_FIRST:
        group = [key for key in candidates if key[0] == event_type]
        passes.decide([key for key in group if event_type != POWER_LEVELS[0] or key == POWER_LEVELS], candidates)
    # "No other events affect the authorisation rules, so for all other conflicts, just pick the event with the highest
    # depth and lowest sha1(event_id) that passes authentication in R and add it to R."
    for key, rivals in usable.items():
        chosen = passes.decided.get(key) or passes.newest_allowed(rivals)
        resolved[key] = chosen.event_id
    return resolved


def _separate(state_sets: Iterable[State]) -> tuple[dict[StateKey, str], dict[StateKey, set[str]]]:
    """The union of what does not conflict, and by key the ids that do.

    "A conflict occurs between states where those states have different event_ids for the same (event_type, state_key)":
    a key that only some states have is none.
    """
    found: dict[StateKey, set[str]] = {}
    for state_set in state_sets:
        for key, event_id in state_set.items():
            found.setdefault(key, set()).add(event_id)
    conflicts = {key: event_ids for key, event_ids in found.items() if len(event_ids) > 1}
    return {key: next(iter(ids)) for key, ids in found.items() if key not in conflicts}, conflicts


def _usable(conflicts: Mapping[StateKey, Iterable[str]], reader: Reader) -> dict[StateKey, list[Event]]:
    """The events between which there is a choice, newest first.

    NOTSPEC: rejected events stay out, as in Synapse (no state that was computed holds one). Where they leave a single
    one it is taken, but authorises nothing.
    """
    reader.load(event_id for event_ids in conflicts.values() for event_id in event_ids)
    usable = {
        key: sorted((reader.get(event_id) for event_id in event_ids if reader.usable(event_id)), key=_newest_first)
        for key, event_ids in conflicts.items()
    }
    return {key: events for key, events in usable.items() if events}


def _newest_first(event: Event) -> tuple[int, str]:
    return -event.depth, sha1(event.event_id.encode(), usedforsecurity=False).hexdigest()


def _auth_types(event: Event) -> list[StateKey]:
    return auth_types_for(event.type, event.sender, event.state_key, event.content, event.rules)


def _cited_keys(candidates: Mapping[StateKey, Iterable[Event]]) -> set[StateKey]:
    return {key for rivals in candidates.values() for event in rivals for key in _auth_types(event)}


class _Passes:
    """R, as far as it authorises what conflicts."""

    def __init__(self, unconflicted: State, reader: Reader) -> None:
        reader.load(unconflicted.values())
        self._auth = {key: reader.get(event_id) for key, event_id in unconflicted.items() if reader.usable(event_id)}
        self.decided: dict[StateKey, Event] = {}

    def decide(self, keys: Iterable[StateKey], candidates: Mapping[StateKey, Sequence[Event]]) -> None:
        """One pass; what it decides authorises the next ones."""
        decided = {key: self._last_of_unbroken(candidates[key]) for key in keys}
        self.decided |= decided
        self._auth |= decided

    def _last_of_unbroken(self, rivals: Sequence[Event]) -> Event:
        """ "Sort the list by ascending depth then descending sha1(event_id). Add the first event in the list to R. For
        each subsequent event in the list, check that the event would be allowed by the authorisation rules for a room
        in state R. If the event would be allowed, then update R with the event and continue ... If it would not be
        allowed, stop".
        """
        chosen, *later = reversed(rivals)
        auth = dict(self._auth)
        for event in later:
            auth[chosen.key] = chosen
            if allowed(event, auth) is not None:
                break
            chosen = event
        return chosen

    def newest_allowed(self, rivals: Sequence[Event]) -> Event:
        """Where none is allowed, the oldest, as in Synapse: the text says nothing."""
        return next((event for event in rivals if allowed(event, self._auth) is None), rivals[-1])
