"""m.room.power_levels: its shape, and that nobody gives or takes more than they have.

Rule 9 of versions 6 to 11, rule 10 of 1 to 5 and 12. Numbers in comments are those of versions 10 and 11; the versions
before have neither 9.1 nor 9.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from annals.matrix.auth_rules.case import Case
from annals.matrix.auth_rules.rejection import Reason, Rejection
from annals.matrix.power_levels import DEFAULT_LEVELS, as_level, as_map, privileged_creators
from annals.matrix.room_versions import RoomRules

_ENTRIES: Final = ("events", "notifications")


def check_power_levels(case: Case, sender_level: int) -> Rejection | None:
    """Rule 9 for a sender of this level."""
    return _check_shape(case) or _check_changes(case, sender_level)


def _check_shape(case: Case) -> Rejection | None:
    content, rules = case.event.content, case.event.rules
    if rules.integer_power_levels:
        # v10+, 1: If any of the properties users_default, events_default, state_default, ban, redact, kick, or invite
        #          in content are present and not an integer, reject.
        if any(name in content and as_level(content[name], rules) is None for name in DEFAULT_LEVELS):
            return case.reject("power_levels.integers", Reason.BAD_POWER_LEVELS)
        # v10+, 2: If either of the properties events or notifications in content are present and not an object with
        #          values that are integers, reject.
        if any(name in content and not _is_level_map(content[name], rules) for name in _ENTRIES):
            return case.reject("power_levels.maps", Reason.BAD_POWER_LEVELS)
    # 3. If the users property in content is not an object with keys that are valid user IDs with values that are
    #    integers (v1-9: or a string that is an integer), reject. (All implementations let it be absent.)
    users = content.get("users", {})
    if not _is_level_map(users, rules) or not all(_is_user_id(user) for user in users):
        return case.reject("power_levels.users", Reason.BAD_POWER_LEVELS)
    # v12, 4: If the users property in content contains the sender of the m.room.create event or any of the
    #         additional_creators array (if present) from the content of the m.room.create event, reject.
    if not privileged_creators(case.create).isdisjoint(users):
        return case.reject("power_levels.creators", Reason.CREATOR_IN_USERS)
    return None


def _check_changes(case: Case, limit: int) -> Rejection | None:
    # 4. If there is no previous m.room.power_levels event in the room, allow.
    # NOTSPEC: as in Synapse, *previous* is the event of the same state key, so that one with another state key than ""
    # (which nothing reads) is not compared.
    state_key = case.event.state_key
    previous = None if state_key is None else case.auth.get(("m.room.power_levels", state_key))
    if previous is None:
        return None
    before, after = previous.content, case.event.content
    # 5. For the properties users_default, events_default, state_default, ban, redact, kick, invite check if they were
    #    added, changed or removed. For each found alteration:
    #    1. If the current value is higher than the sender's current power level, reject.
    #    2. If the new value is higher than the sender's current power level, reject.
    for _, old, new in _alterations(before, after, case.event.rules, DEFAULT_LEVELS):
        if _above(old, limit):
            return case.reject("power_levels.named.1", Reason.TOO_LITTLE_POWER)
        if _above(new, limit):
            return case.reject("power_levels.named.2", Reason.TOO_LITTLE_POWER)
    return _check_entries(case, before, after, limit) or _check_users(case, before, after, limit)


def _check_entries(case: Case, before: Mapping[str, Any], after: Mapping[str, Any], limit: int) -> Rejection | None:
    rules = case.event.rules
    # v1-5: the events property only
    protected = _ENTRIES if rules.notifications_levels_protected else ("events",)
    changes = [
        change
        for name in protected
        for change in _alterations(as_map(before.get(name)), as_map(after.get(name)), rules)
    ]
    # 6. For each entry being changed in, or removed from, the events or notifications properties: If the current value
    #    is greater than the sender's current power level, reject.
    if any(_above(old, limit) for _, old, _ in changes):
        return case.reject("power_levels.entries_old.1", Reason.TOO_LITTLE_POWER)
    # 7. For each entry being added to, or changed in, the events or notifications properties: If the new value is
    #    greater than the sender's current power level, reject.
    if any(_above(new, limit) for _, _, new in changes):
        return case.reject("power_levels.entries_new.1", Reason.TOO_LITTLE_POWER)
    return None


def _check_users(case: Case, before: Mapping[str, Any], after: Mapping[str, Any], limit: int) -> Rejection | None:
    changes = list(_alterations(as_map(before.get("users")), as_map(after.get("users")), case.event.rules))
    # 8. For each entry being changed in, or removed from, the users property, other than the sender's own entry: If the
    #    current value is greater than or equal to the sender's current power level, reject.
    if any(old is not None and old >= limit for user, old, _ in changes if user != case.event.sender):
        return case.reject("power_levels.users_old.1", Reason.TOO_LITTLE_POWER)
    # 9. For each entry being added to, or changed in, the users property: If the new value is greater than the sender's
    #    current power level, reject.
    if any(_above(new, limit) for _, _, new in changes):
        return case.reject("power_levels.users_new.1", Reason.TOO_LITTLE_POWER)
    # 10. Otherwise, allow.
    return None


def _alterations(
    before: Mapping[str, Any], after: Mapping[str, Any], rules: RoomRules, names: Iterable[str] | None = None
) -> Iterator[tuple[str, int | None, int | None]]:
    """(name, old, new) for each entry that was added, changed or removed; None for absent."""
    for name in names if names is not None else before.keys() | after.keys():
        old, new = as_level(before.get(name), rules), as_level(after.get(name), rules)
        if old != new:
            yield name, old, new


def _above(level: int | None, limit: int) -> bool:
    return level is not None and level > limit


def _is_level_map(value: object, rules: RoomRules) -> bool:
    return isinstance(value, dict) and all(as_level(level, rules) is not None for level in value.values())


def _is_user_id(value: str) -> bool:
    # As lenient as Synapse here: accepted events hold user ids that today's grammar does not know.
    return value.startswith("@") and ":" in value
