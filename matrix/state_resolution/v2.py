"""State resolution v2 (rooms/v2 to v11) and v2.1 (rooms/v12, MSC4297).

v2.1 differs in two things: the iterative auth checks start from an empty state, so that an old event is authorised by
its own history instead of by a state that it never knew; and the full conflicted set includes the events between
conflicted ones, without which these could not be authorised.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from collections.abc import Set as AbstractSet

from annals.matrix.auth_events import CREATE, JOIN_RULES, POWER_LEVELS, auth_types_for
from annals.matrix.auth_rules import allowed
from annals.matrix.auth_rules.own_join import is_own_join, own_join_facts
from annals.matrix.events import Event, StateKey
from annals.matrix.room_versions import RoomRules, StateResolution
from annals.matrix.state_resolution.conflicts import Conflicts, Walk, auth_difference
from annals.matrix.state_resolution.ordering import Mainline, power_order
from annals.matrix.state_resolution.source import AuthChainIndex, EventSource, Reader, Unconflicted, WholeMap


def resolve_v2(
    rules: RoomRules,
    conflicts: Conflicts,
    unconflicted: Unconflicted,
    events: EventSource,
    index: AuthChainIndex | Iterable[str],
) -> dict[StateKey, str]:
    """What the conflicted keys come to, and keys that nobody had: what is to be added to the unconflicted state.

    `index` may be the ids of the unconflicted state: then the chains are walked.
    """
    conflicted = frozenset(conflicts.masks)
    reader = Reader(events)
    if not conflicted:
        return {}
    chains = Walk(index, reader) if isinstance(index, Iterable) else index
    full_conflicted = conflicted | auth_difference(conflicts, unconflicted, reader, chains)
    # v12: "The full conflicted set is the union of the conflicted state set, the conflicted state subgraph, and the
    #       auth difference"; step 2 starts "from an empty state map".
    base: Unconflicted = unconflicted
    if rules.state_resolution is StateResolution.V2_1:
        full_conflicted |= chains.between(conflicted)
        base = WholeMap()
    checks = _IterativeAuthChecks(base, reader)
    checks.load(full_conflicted)
    # 1. Select the set X of all power events … Sort X into a list using the reverse topological power ordering.
    # 2. Apply the iterative auth checks algorithm … to get a partially resolved state.
    power_events = power_order(full_conflicted, reader)
    checks.apply(power_events)
    # 3. Take all remaining events that weren't picked in step 1 and order them by the mainline ordering based on the
    #    power level in the partially resolved state obtained in step 2.
    # 4. Apply the iterative auth checks algorithm on the partial resolved state and the list of events from the
    #    previous step.
    mainline = Mainline(checks.current(POWER_LEVELS), reader, chains)
    checks.apply(mainline.sort(full_conflicted.difference(power_events)))
    # 5. Update the result by replacing any event with the event with the same key from the unconflicted state map, if
    #    such an event exists, to get the final resolved state.
    unconflicted.have(checks.changed)
    return {key: event_id for key, event_id in checks.changed.items() if unconflicted.get(key) is None}


class _IterativeAuthChecks:
    """A state that grows by the events that are allowed in it."""

    def __init__(self, base: Unconflicted, reader: Reader) -> None:
        self._base = base
        self._reader = reader
        self.changed: dict[StateKey, str] = {}
        self._keys: dict[str, list[StateKey]] = {}
        self._own_joins: dict[str, StateKey] = {}
        self._current: tuple[Event | None, Event | None] | None = None
        self._verdicts: dict[Hashable, bool] = {}

    def current(self, key: StateKey) -> str | None:
        return self.changed.get(key) or self._base.get(key)

    def load(self, event_ids: AbstractSet[str]) -> None:
        """Have at hand what `apply` will read of these events: one round trip instead of one an event."""
        reader = self._reader
        reader.load(event_ids)
        wanted = reader.all_cited(event_ids)
        keys = self._find_own_joins(event_ids)
        keys.update(
            key
            for event_id in event_ids
            if event_id not in self._own_joins
            for key in self._auth_types(reader.get(event_id))
        )
        self._base.have(keys)
        wanted.update(event_id for key in keys if (event_id := self._base.get(key)) is not None)
        reader.load(wanted, with_auth_chains=True)

    def _find_own_joins(self, event_ids: Iterable[str]) -> set[StateKey]:
        """The joins whose verdicts many share, and the keys that these are authorised by."""
        events, found = self._reader.events, self._own_joins
        for event_id in event_ids:
            event = events[event_id]
            if is_own_join(event):
                found[event_id] = event.type, event.sender
        if not found:
            return set()
        create = [CREATE] if events[next(iter(found))].rules.create_cited_in_auth_events else []
        return {*found.values(), *create, JOIN_RULES, POWER_LEVELS}

    def apply(self, event_ids: Iterable[str]) -> None:
        """Take these events in their order into the state, each if the auth rules allow it there."""
        usable, events, own_joins = self._reader.usable, self._reader.events, self._own_joins
        for event_id in event_ids:
            # NOTSPEC: rejected events stay out, as in Synapse. By the text one that was rejected by the state before it
            # could come in here.
            if not usable(event_id):
                continue
            key = own_joins.get(event_id)
            event = events[event_id]
            if key is not None:
                if self._own_join_allowed(event, key):
                    self.changed[key] = event_id
            elif event.state_key is not None and allowed(event, self._auth_of(event)) is None:
                self.changed[event.type, event.state_key] = event_id
                self._current = None

    def _own_join_allowed(self, event: Event, key: StateKey) -> bool:
        """As `allowed`. Asked once for all that the rules cannot tell apart."""
        if self._current is None:
            self._current = self._usable(CREATE), self._usable(JOIN_RULES)
        create, rule = self._current
        member = self._usable(key)
        # What the state does not have is taken from what the event cites.
        if member is None:
            member = self._cited_as(event, key)
        if create is None:
            create = self._cited_as(event, CREATE)
        if rule is None:
            rule = self._cited_as(event, JOIN_RULES)
        alike = own_join_facts(event, create, rule, member)
        if alike is None:
            return allowed(event, self._auth_of(event)) is None
        verdict = self._verdicts.get(alike)
        if verdict is None:
            verdict = self._verdicts[alike] = allowed(event, self._auth_of(event)) is None
        return verdict

    def _usable(self, key: StateKey) -> Event | None:
        event_id = self.changed.get(key) or self._base.get(key)
        return self._reader.get(event_id) if event_id is not None and self._reader.usable(event_id) else None

    def _cited_as(self, event: Event, key: StateKey) -> Event | None:
        """As `_auth_of`: of several, the last."""
        events, (event_type, state_key), found = self._reader.events, key, None
        for event_id in self._reader.cited(event.event_id):
            cited = events[event_id]
            if cited.state_key == state_key and cited.type == event_type and self._reader.usable(event_id):
                found = cited
        return found

    def _auth_of(self, event: Event) -> dict[StateKey, Event]:
        """ "If a (event_type, state_key) key that is required for checking the authorisation rules is not present in
        the state, then the appropriate state event from the event's auth_events is used if the auth event is not
        rejected." Rejected events of the state are passed over in the same way.
        """
        reader = self._reader
        auth: dict[StateKey, Event] = {}
        for event_id in reader.cited(event.event_id):
            cited = reader.get(event_id)
            key = cited.type, cited.state_key
            if key[1] is not None and reader.usable(event_id):
                auth[cited.type, key[1]] = cited
        for needed in self._auth_types(event):
            current = self.current(needed)
            if current is not None and reader.usable(current):
                auth[needed] = reader.get(current)
        return auth

    def _auth_types(self, event: Event) -> list[StateKey]:
        keys = self._keys.get(event.event_id)
        if keys is None:
            keys = self._keys[event.event_id] = _auth_types(event)
        return keys


def _auth_types(event: Event) -> list[StateKey]:
    return auth_types_for(event.type, event.sender, event.state_key, event.content, event.rules)
