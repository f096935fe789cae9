"""Policy servers, as far as events tell of them (client-server API, "Policy Servers"; server-server API, the same).

A room names a policy server by `m.room.policy` in its current state. That server signs the events that it recommends,
by the key that stands in the room's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from annals.matrix.errors import SignatureInvalid
from annals.matrix.events import Event, StateKey
from annals.matrix.hashing import signing_bytes
from annals.matrix.room_versions import RoomRules
from annals.matrix.signing import VerifyKey

POLICY: StateKey = ("m.room.policy", "")
KEY_ID = "ed25519:policy_server"
""" "The Key ID for the `ed25519` key in `m.room.policy` is *always* `ed25519:policy_server`." """


@dataclass(frozen=True, slots=True)
class PolicyServer:
    """Who is named, and the key in the room's state (base64 of an ed25519 key, or of nothing of the kind)."""

    server_name: str
    public_key: str


def is_exempt(event_type: str, state_key: str | None) -> bool:
    """Whether an event of this kind is asked of no policy server: so that one that is dead can be dismissed."""
    # "This endpoint MUST NOT be called for events which have a type of `m.room.policy` and an empty string
    # `state_key`."
    return (event_type, state_key) == POLICY


def named_by(content: dict[str, Any]) -> PolicyServer | None:
    """The policy server that the content of an m.room.policy names, if it is valid."""
    # "Valid means `content` contains at least: A string value for `via`. An object value for `public_keys` containing
    # at least a string value for `ed25519`."
    via, keys = content.get("via"), content.get("public_keys")
    key = keys.get("ed25519") if type(keys) is dict else None
    return PolicyServer(via, key) if type(via) is str and type(key) is str else None


def is_signed_by(event: Event, server: PolicyServer) -> bool:
    """Whether the event bears the valid signature of the policy server."""
    return is_valid(signature_in(event.pdu.get("signatures"), server.server_name), event.pdu, event.rules, server)


def is_valid(signature: str | None, pdu: dict[str, Any], rules: RoomRules, server: PolicyServer) -> bool:
    """Whether `signature` is the policy server's over the event; of a key that is none nothing is."""
    if signature is None:
        return False
    try:
        VerifyKey.from_base64(KEY_ID, server.public_key).verify(signing_bytes(pdu, rules), signature)
    except SignatureInvalid:
        return False
    return True


def signature_in(signatures: Any, server_name: str) -> str | None:
    """The signature of a policy server among signatures: those of an event, or its answer to `sign`."""
    by_key = signatures.get(server_name) if type(signatures) is dict else None
    signature = by_key.get(KEY_ID) if type(by_key) is dict else None
    return signature if type(signature) is str else None


def with_signature(pdu: dict[str, Any], server_name: str, signature: str) -> dict[str, Any]:
    """The PDU with the policy server's signature beside those that it has; `pdu` itself stays as it is."""
    # "Those existing signatures might not be returned by the policy server, but should be retained to validate the
    # event."
    signatures = pdu.get("signatures")
    signatures = signatures if type(signatures) is dict else {}
    of_server = signatures.get(server_name)
    of_server = of_server if type(of_server) is dict else {}
    return {**pdu, "signatures": {**signatures, server_name: {**of_server, KEY_ID: signature}}}
