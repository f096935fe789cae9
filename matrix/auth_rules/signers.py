"""Whose signatures an event needs: "must be signed by the server denoted by the sender", and rule 4.2.

Pure, so only presence is judged here: who admits an event from outside verifies the signature of each of
`signing.required_signers`. No part of `allowed`, since an event of ours is judged before it is signed.
"""

from __future__ import annotations

from annals.matrix.auth_rules.case import domain_of
from annals.matrix.auth_rules.rejection import Reason, Rejection, reject
from annals.matrix.events import Event
from annals.matrix.power_levels import as_map
from annals.matrix.room_versions import EventIdFormat
from annals.matrix.signing import required_signers


def check_signers(event: Event) -> Rejection | None:
    """What can be seen of these rules in the event: the signatures are there.

    The sender's, and in versions 1 and 2 that of the event id's server, have no number: they are reported as rule 0.
    """
    signatures = as_map(event.pdu.get("signatures"))
    unnumbered = {domain_of(event.sender)} & required_signers(event.pdu, event.rules)
    # v1-2: "events need a signature from the domain of the `event_id` in order to be considered valid"
    if event.rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
        unnumbered.add(domain_of(event.event_id))
    if not unnumbered <= signatures.keys():
        return Rejection("0", Reason.NOT_SIGNED)
    # 4.2. If content has a join_authorised_via_users_server key: 1. If the event is not validly signed by the
    #      homeserver of the user ID denoted by the key, reject.
    # NOTSPEC: the key is looked at in joins only, as in Synapse; elsewhere nothing reads it.
    if names_authoriser(event) and authorising_server(event) not in signatures:
        return reject(event.rules, "member.authorised.1", Reason.NOT_SIGNED)
    return None


def names_authoriser(event: Event) -> bool:
    """Whether the event is a join that names an authorising user (rightly or not)."""
    return (
        event.rules.restricted_join
        and event.type == "m.room.member"
        and event.content.get("membership") == "join"
        and "join_authorised_via_users_server" in event.content
    )


def authorising_server(event: Event) -> str:
    """The server of the user that the event names; "" where it names nobody."""
    authoriser = event.content["join_authorised_via_users_server"]
    return domain_of(authoriser) if isinstance(authoriser, str) else ""
