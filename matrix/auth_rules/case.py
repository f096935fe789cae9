"""What the rules look at: an event, and the state that it is judged in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from annals.matrix.auth_events import JOIN_RULES
from annals.matrix.auth_rules.rejection import Reason, Rejection, reject
from annals.matrix.events import Event, StateKey
from annals.matrix.power_levels import PowerLevels
from annals.matrix.quick import quick


@quick
@dataclass(frozen=True, slots=True)
class Case:
    """One event before one state. `create` and `power` are read from `auth`."""

    event: Event
    auth: Mapping[StateKey, Event]
    create: Event
    power: PowerLevels

    def membership(self, user_id: str) -> object:
        """`content.membership` of the user in this state (any JSON value), None where there is none."""
        member = self.auth.get(("m.room.member", user_id))
        return None if member is None else member.content.get("membership")

    def join_rule(self) -> object:
        """`content.join_rule` in this state; `invite` where the event or the key is absent."""
        event = self.auth.get(JOIN_RULES)
        return "invite" if event is None else event.content.get("join_rule", "invite")

    def reject(self, rule: str, reason: Reason) -> Rejection:
        """A rejection by a named rule, numbered as in the event's room version."""
        return reject(self.event.rules, rule, reason)


def domain_of(identifier: str) -> str:
    """What follows the first colon, of a user id, (versions 1 to 11) a room id, (1 and 2) an event id; "" without one.

    Not `identifiers.domain_of`, which rightly refuses the latter two: only rules compare their domains.
    """
    return identifier.partition(":")[2]
