"""Rule 2 (version 12: rule 3): which events another one may cite in `auth_events`."""

from __future__ import annotations

from collections.abc import Sequence

from annals.matrix.auth_events import CREATE, auth_types_for
from annals.matrix.auth_rules.rejection import Reason, Rejection, reject
from annals.matrix.events import Event


def check_auth_events(event: Event, cited: Sequence[tuple[Event, bool]]) -> Rejection | None:
    """The rule that the event's `auth_events` break, or None.

    `cited` is every event that `event.auth_events` names, in that order, with whether it was rejected. For a create
    event nothing is checked here: rule 1 comes first, and allows or rejects it.
    """
    if event.type == "m.room.create":
        return None
    rules = event.rules
    keys = {(other.type, other.state_key) for other, _ in cited}
    # 1. If there are duplicate entries for a given type and state_key pair, reject.
    if len(keys) != len(cited):
        return reject(rules, "auth_events.duplicate", Reason.DUPLICATE_AUTH_EVENT)
    # 2. If there are entries whose type and state_key don't match those specified by the auth events selection
    #    algorithm described in the server specification, reject.
    #    Note: up to version 11 an m.room.create event is to be selected, in version 12 it must not be.
    if not keys.issubset(auth_types_for(event.type, event.sender, event.state_key, event.content, rules)):
        return reject(rules, "auth_events.unneeded", Reason.UNNEEDED_AUTH_EVENT)
    # 3. If there are entries which were themselves rejected under the checks performed on receipt of a PDU, reject.
    if any(rejected for _, rejected in cited):
        return reject(rules, "auth_events.rejected", Reason.REJECTED_AUTH_EVENT)
    # v1-v11, 4: If there is no m.room.create event among the entries, reject.
    if rules.create_cited_in_auth_events and CREATE not in keys:
        return reject(rules, "auth_events.no_create", Reason.NO_CREATE_EVENT)
    # 5. If any event in auth_events has a room_id which does not match that of the event being authorised, reject.
    if any(other.room_id != event.room_id for other, _ in cited):
        return reject(rules, "auth_events.room_id", Reason.AUTH_EVENT_OF_OTHER_ROOM)
    return None
