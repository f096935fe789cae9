"""State resolution v2 (rooms/v2 to v11) and v2.1 (rooms/v12, MSC4297).

v2.1 differs in two things: the iterative auth checks start from an empty state, so that an old event is authorised by
its own history instead of by a state that it never knew; and the full conflicted set includes the events between
conflicted ones, without which these could not be authorised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from annals.matrix.auth_events import POWER_LEVELS, auth_types_for
from annals.matrix.auth_rules import allowed
from annals.matrix.events import Event, StateKey
from annals.matrix.room_versions import RoomRules, StateResolution
from annals.matrix.state_resolution.conflicts import auth_difference, conflicted_subgraph, separate
from annals.matrix.state_resolution.ordering import Mainline, power_order
from annals.matrix.state_resolution.source import AuthChainIndex, EventSource, Reader


def resolve_v2(
    rules: RoomRules,
    state_sets: Sequence[Mapping[StateKey, str]],
    events: EventSource,
    index: AuthChainIndex | None,
) -> dict[StateKey, str]:
    """The resolution of at least two states; see `resolve`."""
    reader = Reader(events)
    unconflicted, conflicted = separate(state_sets)
    if not conflicted:
        return unconflicted
    full_conflicted = conflicted | auth_difference(
        state_sets, frozenset(unconflicted.values()), conflicted, reader, index
    )
    # v12: "The full conflicted set is the union of the conflicted state set, the conflicted state subgraph, and the
    #       auth difference"; step 2 starts "from an empty state map".
    base: Mapping[StateKey, str] = unconflicted
    if rules.state_resolution is StateResolution.V2_1:
        full_conflicted |= conflicted_subgraph(conflicted, reader)
        base = {}
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
    mainline = Mainline(checks.current(POWER_LEVELS), reader)
    checks.apply(mainline.sort(full_conflicted.difference(power_events)))
    # 5. Update the result by replacing any event with the event with the same key from the unconflicted state map, if
    #    such an event exists, to get the final resolved state.
    return checks.changed | unconflicted


class _IterativeAuthChecks:
    """A state that grows by the events that are allowed in it."""

    def __init__(self, base: Mapping[StateKey, str], reader: Reader) -> None:
        self._base = base
        self._reader = reader
        self.changed: dict[StateKey, str] = {}

    def current(self, key: StateKey) -> str | None:
        return self.changed.get(key) or self._base.get(key)

    def load(self, event_ids: Iterable[str]) -> None:
        """Have at hand what `apply` will read of these events: one round trip instead of one an event."""
        reader = self._reader
        reader.load(event_ids, with_auth_chains=True)
        wanted: set[str] = set()
        for event_id in event_ids:
            wanted.update(reader.cited(event_id))
            of_base = (self._base.get(key) for key in _auth_types(reader.get(event_id)))
            wanted.update(other for other in of_base if other is not None)
        reader.load(wanted, with_auth_chains=True)

    def apply(self, event_ids: Iterable[str]) -> None:
        """Take these events in their order into the state, each if the auth rules allow it there."""
        for event_id in event_ids:
            # NOTSPEC: rejected events stay out, as in Synapse. By the text one that was rejected by the state before it
            # could come in here.
            if not self._reader.usable(event_id):
                continue
            event = self._reader.get(event_id)
            if event.state_key is not None and allowed(event, self._auth_of(event)) is None:
                self.changed[event.type, event.state_key] = event_id

    def _auth_of(self, event: Event) -> dict[StateKey, Event]:
        """ "If a (event_type, state_key) key that is required for checking the authorisation rules is not present in
        the state, then the appropriate state event from the event's auth_events is used if the auth event is not
        rejected." Rejected events of the state are passed over in the same way.
        """
        reader = self._reader
        auth: dict[StateKey, Event] = {}
        for event_id in reader.cited(event.event_id):
            cited = reader.get(event_id)
            if cited.state_key is not None and reader.usable(event_id):
                auth[cited.type, cited.state_key] = cited
        for key in _auth_types(event):
            current = self.current(key)
            if current is not None and reader.usable(current):
                auth[key] = reader.get(current)
        return auth


def _auth_types(event: Event) -> list[StateKey]:
    return auth_types_for(event.type, event.sender, event.state_key, event.content, event.rules)
