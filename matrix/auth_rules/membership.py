"""m.room.member: rule 5 of versions 1 to 5, rule 4 of 6 to 11, rule 5 of 12. A function a membership, in their order.

Numbers in comments are those of versions 8 to 11. Whether the signature of rule 4.2 is there does not depend on the
state: `signers.py`.
"""

from __future__ import annotations

from annals.matrix.auth_rules.case import Case
from annals.matrix.auth_rules.rejection import Reason, Rejection
from annals.matrix.auth_rules.signers import authorising_server, names_authoriser
from annals.matrix.auth_rules.third_party_invite import check_third_party_invite
from annals.matrix.power_levels import first_creator


def check_membership(case: Case) -> Rejection | None:
    """Rule 4 in the case's state."""
    target = case.event.state_key
    membership = case.event.content.get("membership")
    # 1. If there is no state_key property, or no membership property in content, reject.
    if target is None or "membership" not in case.event.content:
        return case.reject("member.shape", Reason.NO_MEMBERSHIP)
    # v8+, 2: If content has a join_authorised_via_users_server key: … (What names nobody, nobody's server can sign.)
    if names_authoriser(case.event) and not authorising_server(case.event):
        return case.reject("member.authorised.1", Reason.NOT_SIGNED)
    match membership:
        case "join":
            return _check_join(case, target)
        case "invite":
            return _check_invite(case, target)
        case "leave":
            return _check_leave(case, target)
        case "ban":
            return _check_ban(case, target)
        case "knock" if case.event.rules.knocking:
            return _check_knock(case, target)
    # 8. Otherwise, the membership is unknown. Reject.
    return case.reject("member.unknown", Reason.UNKNOWN_MEMBERSHIP)


def is_first_join(case: Case) -> bool:
    """Whether the creator joins, by rule 4.3.1: whoever is the sender."""
    event = case.event
    return (
        event.prev_events == (case.create.event_id,)
        and event.content.get("membership") == "join"
        and event.state_key == first_creator(case.create)
    )


def _check_join(case: Case, target: str) -> Rejection | None:
    event = case.event
    # 1. If the only previous event is an m.room.create and the state_key is the creator, allow.
    if is_first_join(case):
        return None
    # 2. If the sender does not match state_key, reject.
    if event.sender != target:
        return case.reject("member.join.sender", Reason.NOT_OWN_MEMBERSHIP)
    current = case.membership(target)
    # 3. If the sender is banned, reject.
    if current == "ban":
        return case.reject("member.join.banned", Reason.BANNED)
    join_rule, rules = case.join_rule(), event.rules
    # 4. If the join_rule is invite or (v7+) knock then allow if membership state is invite or join.
    if join_rule == "invite" or (rules.knocking and join_rule == "knock"):
        if current in ("invite", "join"):
            return None
        return case.reject("member.join.invited", Reason.NOT_INVITED)
    # v8+, 5: If the join_rule is restricted or (v10+) knock_restricted:
    #    1. If membership state is join or invite, allow.
    if (rules.restricted_join and join_rule == "restricted") or _knock_restricted(case):
        return None if current in ("join", "invite") else _check_authorised_join(case)
    # 6. If the join_rule is public, allow.
    if join_rule == "public":
        return None
    # 7. Otherwise, reject.
    return case.reject("member.join.otherwise", Reason.UNKNOWN_JOIN_RULE)


def _check_authorised_join(case: Case) -> Rejection | None:
    # 5.2. If the join_authorised_via_users_server key in content is not a user with sufficient permission to invite
    #      other users or is not a joined member of the room, reject.
    authoriser = case.event.content.get("join_authorised_via_users_server")
    if (
        not isinstance(authoriser, str)
        or case.membership(authoriser) != "join"
        or case.power.user(authoriser) < case.power.named("invite")
    ):
        return case.reject("member.join.restricted.2", Reason.NOT_AUTHORISED_TO_JOIN)
    # 5.3. Otherwise, allow.
    return None


def _check_invite(case: Case, target: str) -> Rejection | None:
    # 1. If content has a third_party_invite property: …
    if "third_party_invite" in case.event.content:
        return check_third_party_invite(case, target)
    # 2. If the sender's current membership state is not join, reject.
    if case.membership(case.event.sender) != "join":
        return case.reject("member.invite.2", Reason.SENDER_NOT_JOINED)
    # 3. If target user's current membership state is join or ban, reject.
    if case.membership(target) in ("join", "ban"):
        return case.reject("member.invite.3", Reason.TARGET_JOINED_OR_BANNED)
    # 4. If the sender's power level is greater than or equal to the invite level, allow.
    if case.power.user(case.event.sender) >= case.power.named("invite"):
        return None
    # 5. Otherwise, reject.
    return case.reject("member.invite.5", Reason.TOO_LITTLE_POWER)


def _check_leave(case: Case, target: str) -> Rejection | None:
    sender = case.event.sender
    # 1. If the sender matches state_key, allow if and only if that user's current membership state is invite, join, or
    #    (v7+) knock.
    if sender == target:
        current = case.membership(target)
        if current in ("invite", "join") or (current == "knock" and case.event.rules.knocking):
            return None
        return case.reject("member.leave.1", Reason.NOTHING_TO_LEAVE)
    # 2. If the sender's current membership state is not join, reject.
    if case.membership(sender) != "join":
        return case.reject("member.leave.2", Reason.SENDER_NOT_JOINED)
    level = case.power.user(sender)
    # 3. If the target user's current membership state is ban, and the sender's power level is less than the ban level,
    #    reject.
    if case.membership(target) == "ban" and level < case.power.named("ban"):
        return case.reject("member.leave.3", Reason.TOO_LITTLE_POWER)
    # 4. If the sender's power level is greater than or equal to the kick level, and the target user's power level is
    #    less than the sender's power level, allow.
    if level >= case.power.named("kick") and case.power.user(target) < level:
        return None
    # 5. Otherwise, reject.
    return case.reject("member.leave.5", Reason.TOO_LITTLE_POWER)


def _check_ban(case: Case, target: str) -> Rejection | None:
    # 1. If the sender's current membership state is not join, reject.
    if case.membership(case.event.sender) != "join":
        return case.reject("member.ban.1", Reason.SENDER_NOT_JOINED)
    # 2. If the sender's power level is greater than or equal to the ban level, and the target user's power level is
    #    less than the sender's power level, allow.
    level = case.power.user(case.event.sender)
    if level >= case.power.named("ban") and case.power.user(target) < level:
        return None
    # 3. Otherwise, reject.
    return case.reject("member.ban.3", Reason.TOO_LITTLE_POWER)


def _knock_restricted(case: Case) -> bool:
    return case.event.rules.knock_restricted_join and case.join_rule() == "knock_restricted"


def _check_knock(case: Case, target: str) -> Rejection | None:
    # 1. If the join_rule is anything other than knock or (v10+) knock_restricted, reject.
    if case.join_rule() != "knock" and not _knock_restricted(case):
        return case.reject("member.knock.1", Reason.KNOCKING_NOT_ALLOWED)
    # 2. If sender does not match state_key, reject.
    if case.event.sender != target:
        return case.reject("member.knock.2", Reason.NOT_OWN_MEMBERSHIP)
    # 3. If the sender's current membership is not ban, invite, or join, allow.
    current = case.membership(target)
    if current not in ("ban", "invite", "join"):
        return None
    # 4. Otherwise, reject.
    return case.reject("member.knock.4", Reason.BANNED if current == "ban" else Reason.ALREADY_A_MEMBER)
