"""Whose signatures an event needs: "must be signed by the server denoted by the sender", and rule 4.2.

Pure, so only presence is judged here. Whoever admits an event from outside verifies the signature of each required
signer; an event of ours is judged by `allowed` before it is signed, which is why this is no part of it.
"""

from __future__ import annotations

from annals.matrix.auth_rules.case import domain_of
from annals.matrix.auth_rules.rejection import Reason, Rejection, reject
from annals.matrix.events import Event
from annals.matrix.power_levels import as_map


def required_signers(event: Event) -> frozenset[str]:
    """The servers whose valid signature the event must carry."""
    signers = set()
    # Server-server API, validating hashes and signatures: the signature of the sender's server is not needed where the
    # invite was created as a result of a third-party invite (its own signature is rule 4.4.1.7).
    if not _is_third_party_invitation(event):
        signers.add(domain_of(event.sender))
    if _is_authorised_join(event):
        authoriser = event.content["join_authorised_via_users_server"]
        signers.add(domain_of(authoriser) if isinstance(authoriser, str) else "")
    return frozenset(signers)


def check_signers(event: Event) -> Rejection | None:
    """What can be seen of these rules in the event: the signatures are there. (The sender's is reported as rule 0.)"""
    missing = required_signers(event) - as_map(event.pdu.get("signatures")).keys()
    if domain_of(event.sender) in missing:
        return Rejection("0", Reason.NOT_SIGNED)
    # 4.2. If content has a join_authorised_via_users_server key: 1. If the event is not validly signed by the
    #      homeserver of the user ID denoted by the key, reject.
    # NOTSPEC: the key is looked at in joins only, as in Synapse; elsewhere nothing reads it.
    return reject(event.rules, "member.authorised.1", Reason.NOT_SIGNED) if missing else None


def _is_third_party_invitation(event: Event) -> bool:
    return (
        event.type == "m.room.member"
        and event.content.get("membership") == "invite"
        and "third_party_invite" in event.content
    )


def _is_authorised_join(event: Event) -> bool:
    return (
        event.rules.restricted_join
        and event.type == "m.room.member"
        and event.content.get("membership") == "join"
        and "join_authorised_via_users_server" in event.content
    )
