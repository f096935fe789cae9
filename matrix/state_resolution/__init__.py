"""State resolution: one room state of several (room version 1: "v1"; versions 2 to 11: "v2"; version 12: "v2.1").

Pure: what is not in memory is asked for by `EventsNeeded`, as a whole frontier, and the caller calls again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from annals.matrix.events import StateKey
from annals.matrix.room_versions import RoomRules, StateResolution
from annals.matrix.state_resolution.conflicts import Conflicts, separate
from annals.matrix.state_resolution.source import AuthChainIndex, EventsNeeded, EventSource, Run, Unconflicted
from annals.matrix.state_resolution.v1 import resolve_v1
from annals.matrix.state_resolution.v2 import resolve_v2

__all__ = ["AuthChainIndex", "EventSource", "EventsNeeded", "Run", "Unconflicted", "resolve", "resolve_conflicts"]


def resolve(
    rules: RoomRules,
    state_sets: Sequence[Mapping[StateKey, str]],
    events: EventSource,
    index: AuthChainIndex | None = None,
) -> dict[StateKey, str]:
    """The room state that these states (type and state key -> event id) resolve to.

    It does not depend on the order of the sets. Lets `EventsNeeded` of the source through. `index` answers which events
    are in the auth chain of others without loading these; without one the chains are walked.
    """
    # Equal states collapse first: nothing is conflicted between them.
    distinct: list[Mapping[StateKey, str]] = []
    for state_set in state_sets:
        if not any(state_set is other or state_set == other for other in distinct):
            distinct.append(state_set)
    if len(distinct) < 2:
        return dict(distinct[0]) if distinct else {}
    if rules.state_resolution is StateResolution.V1:
        return resolve_v1(distinct, events)
    unconflicted, conflicts = separate(distinct)
    return unconflicted | resolve_v2(rules, conflicts, unconflicted, events, index or unconflicted.values())


def resolve_conflicts(
    rules: RoomRules,
    conflicts: Sequence[Mapping[StateKey, str]],
    unconflicted: Unconflicted,
    events: EventSource,
    index: AuthChainIndex,
) -> dict[StateKey, str]:
    """As `resolve` (not for version 1), where only the keys in which the states differ are at hand.

    `conflicts` has of each state what it has for these keys. Answers what is to be added to the unconflicted state.
    """
    return resolve_v2(rules, Conflicts.of(conflicts), unconflicted, events, index)
