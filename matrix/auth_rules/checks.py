"""The authorisation rules: may this event happen, given that state?

`allowed` judges against any auth map: the event's own auth events, the state before it, the current state, or the
partly resolved state of state resolution. The comments give the rules' text; numbers are those of versions 10 and 11,
where a rule is in these.
Rule 2 (which auth events may be cited) depends on the event alone and stands in `cited.py`; what needs signatures to be
there, in `signers.py`. Rules read only the fields that they name, so that nobody rejects more than others do.
"""

from __future__ import annotations

from collections.abc import Mapping

from annals.matrix.auth_events import CREATE, POWER_LEVELS
from annals.matrix.auth_rules.case import Case, domain_of
from annals.matrix.auth_rules.create import check_create
from annals.matrix.auth_rules.membership import check_membership, is_first_join
from annals.matrix.auth_rules.power_level_changes import check_power_levels
from annals.matrix.auth_rules.rejection import Reason, Rejection, reject
from annals.matrix.events import Event, StateKey
from annals.matrix.power_levels import PowerLevels


def allowed(event: Event, auth: Mapping[StateKey, Event]) -> Rejection | None:
    """The rule that refuses the event in this state, or None.

    `auth` must hold what `auth_types_for` names, where the state has it, and in version 12 the create event (under its
    key, though no event cites it), unless that was rejected; more does no harm.
    """
    # 1. If type is m.room.create: …
    if event.type == "m.room.create":
        return check_create(event)
    create = auth.get(CREATE)
    # v1-v11, 2.4: If there is no m.room.create event among the entries, reject.
    # v12, 2: If the event's room_id is not an event ID for an accepted m.room.create event, reject.
    if event.rules.room_id_is_create_hash:
        if create is None or create.room_id != event.room_id:
            return reject(event.rules, "room", Reason.NO_CREATE_EVENT)
    elif create is None:
        return reject(event.rules, "auth_events.no_create", Reason.NO_CREATE_EVENT)
    # 3. If the content of the m.room.create event in the room state has the property m.federate set to false, and the
    #    sender domain of the event does not match the sender domain of the create event, reject.
    # NOTSPEC: any value but true counts as false, as in Synapse.
    if not _federated(create) and domain_of(event.sender) != domain_of(create.sender):
        return reject(event.rules, "federate", Reason.NOT_FEDERATED)
    case = Case(event, auth, create, PowerLevels.of(create, auth.get(POWER_LEVELS)))
    # v1-5, 4: If type is m.room.aliases: …
    if event.type == "m.room.aliases" and event.rules.aliases_rule:
        return _check_aliases(case)
    # 4. If type is m.room.member: …
    if event.type == "m.room.member":
        return _target_outside(case) or check_membership(case)
    return _check_other(case)


def _federated(create: Event) -> bool:
    return create.content.get("m.federate", True) is True


def _target_outside(case: Case) -> Rejection | None:
    """NOTSPEC: rule 3 holds for the target of a membership too, but for the creator's first join, as in Synapse.

    Only servers that share the room judge the event, and in such a room that is one server: nobody can disagree.
    """
    target = case.event.state_key
    if target is None or _federated(case.create) or domain_of(target) == domain_of(case.create.sender):
        return None
    return None if is_first_join(case) else case.reject("federate", Reason.NOT_FEDERATED)


def _check_aliases(case: Case) -> Rejection | None:
    """Rule 4 of versions 1 to 5, in which every server lists its own aliases."""
    state_key = case.event.state_key
    # 1. If event has no state_key, reject.
    if state_key is None:
        return case.reject("aliases.1", Reason.ALIASES_OF_OTHER_SERVER)
    # 2. If sender's domain doesn't match state_key, reject.
    if domain_of(case.event.sender) != state_key:
        return case.reject("aliases.2", Reason.ALIASES_OF_OTHER_SERVER)
    # 3. Otherwise, allow.
    return None


def _check_redaction(case: Case, sender_level: int) -> Rejection | None:
    """Rule 11 of versions 1 and 2; later, whether a redaction takes effect is no question of authorisation."""
    event = case.event
    # 1. If the sender's power level is greater than or equal to the redact level, allow.
    if sender_level >= case.power.named("redact"):
        return None
    # 2. If the domain of the event_id of the event being redacted is the same as the domain of the event_id of the
    #    m.room.redaction, allow.
    # NOTSPEC: one that names no event is allowed, as in Synapse; it redacts nothing.
    if event.redacts is None or domain_of(event.redacts) == domain_of(event.event_id):
        return None
    # 3. Otherwise, reject.
    return case.reject("redaction.3", Reason.NOT_ALLOWED_TO_REDACT)


def _check_other(case: Case) -> Rejection | None:
    """Rules 5 to 10: everything that is neither the room's creation, nor a membership, nor (up to 5) aliases."""
    event = case.event
    # 5. If the sender's current membership state is not join, reject.
    if case.membership(event.sender) != "join":
        return case.reject("joined", Reason.SENDER_NOT_JOINED)
    sender_level = case.power.user(event.sender)
    # 6. If type is m.room.third_party_invite:
    #    1. Allow if and only if sender's current power level is greater than or equal to the invite level.
    if event.type == "m.room.third_party_invite":
        if sender_level >= case.power.named("invite"):
            return None
        return case.reject("third_party_invite.1", Reason.TOO_LITTLE_POWER)
    # 7. If the event type's required power level is greater than the sender's power level, reject.
    if case.power.required(event.type, is_state=event.state_key is not None) > sender_level:
        return case.reject("required_level", Reason.TOO_LITTLE_POWER)
    # 8. If the event has a state_key that starts with an @ and does not match the sender, reject.
    if event.state_key is not None and event.state_key.startswith("@") and event.state_key != event.sender:
        return case.reject("state_key", Reason.STATE_KEY_OF_OTHER_USER)
    # 9. If type is m.room.power_levels: …
    if event.type == "m.room.power_levels":
        return check_power_levels(case, sender_level)
    # v1-2, 11: If type is m.room.redaction: …
    if event.type == "m.room.redaction" and event.rules.redaction_auth_rule:
        return _check_redaction(case, sender_level)
    # 10. Otherwise, allow.
    return None
