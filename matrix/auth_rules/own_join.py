"""Joins by the user itself, about which the rules know so little that many share one verdict.

State resolution judges thousands of them against one state.
"""

from __future__ import annotations

from collections.abc import Hashable

from annals.matrix.events import Event


def is_own_join(event: Event) -> bool:
    """Whether this is a join by the user itself that names nobody who authorised it."""
    return (
        event.type == "m.room.member"
        and event.sender == event.state_key
        and event.content.get("membership") == "join"
        and "join_authorised_via_users_server" not in event.content
    )


def own_join_facts(
    event: Event, create: Event | None, join_rules: Event | None, member: Event | None
) -> Hashable | None:
    """What `allowed` reads of a join that `is_own_join`: with equal facts, equal verdicts. None where it reads more.

    The events are those of the state: its create event, its join rules, and the user's membership.
    """
    # Rule 4.3.1 looks at the previous events, rule 3 at the sender's server where the room is not federated.
    if create is None or create.content.get("m.federate", True) is not True:
        return None
    if event.prev_events == (create.event_id,):
        return None
    membership = None if member is None else member.content.get("membership")
    if not isinstance(membership, str | None):
        return None
    return create.event_id, None if join_rules is None else join_rules.event_id, membership
