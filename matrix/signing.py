"""Ed25519 signatures over JSON and events (appendices, "Signing JSON"; server-server API, "Signing Events")."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from typing import Any

import nacl.exceptions
import nacl.signing

from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.errors import SignatureInvalid
from annals.matrix.hashing import signing_bytes
from annals.matrix.identifiers import domain_of, is_user_id
from annals.matrix.room_versions import EventIdFormat, RoomRules

ALGORITHM = "ed25519"
KEY_VALIDITY_MAX_MS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key of some server, under the id it was published with (`ed25519:version`)."""

    key_id: str
    public: bytes
    """32 bytes."""
    _key: nacl.signing.VerifyKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.key_id.startswith(ALGORITHM + ":"):
            raise SignatureInvalid(f"not an {ALGORITHM} key: {self.key_id[:300]!r}")
        try:
            object.__setattr__(self, "_key", nacl.signing.VerifyKey(self.public))
        except (ValueError, TypeError, nacl.exceptions.CryptoError) as error:
            raise SignatureInvalid(f"not a public key: {error}") from None

    @classmethod
    def from_base64(cls, key_id: str, text: str) -> VerifyKey:
        """A key as servers publish it; raises `SignatureInvalid` where it is none."""
        return cls(key_id, decode_base64(text))

    @property
    def base64(self) -> str:
        """The key as servers publish it: unpadded base64."""
        return encode_base64(self.public)

    def verify(self, message: bytes, signature: str) -> None:
        """Raise `SignatureInvalid` unless `signature` (base64) is this key's over `message`. Releases the GIL."""
        try:
            self._key.verify(message, decode_base64(signature))
        except (nacl.exceptions.BadSignatureError, ValueError) as error:
            raise SignatureInvalid(str(error)) from None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret key of ours."""

    key_id: str
    seed: bytes = field(repr=False)
    """32 bytes."""
    _key: nacl.signing.SigningKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.key_id.startswith(ALGORITHM + ":"):
            raise ValueError(f"not an {ALGORITHM} key: {self.key_id[:300]!r}")
        object.__setattr__(self, "_key", nacl.signing.SigningKey(self.seed))

    @property
    def verify_key(self) -> VerifyKey:
        """The public half."""
        return VerifyKey(self.key_id, bytes(self._key.verify_key))

    def sign(self, message: bytes) -> str:
        """The signature over `message`, in unpadded base64."""
        return encode_base64(self._key.sign(message).signature)


def sign_event(pdu: dict[str, Any], rules: RoomRules, server_name: str, key: SigningKey) -> dict[str, Any]:
    """The PDU (which has its `hashes`) with our signature added; `pdu` itself stays as it is."""
    return _with_signature(pdu, server_name, key.key_id, key.sign(signing_bytes(pdu, rules)))


def verify_event(
    pdu: dict[str, Any], rules: RoomRules, server_name: str, verify_key: VerifyKey, signed: bytes | None = None
) -> None:
    """Raise `SignatureInvalid` unless `server_name` signed the event by this key.

    `signed` are the event's `signing_bytes`, for a caller that has them already.
    """
    signature = _signature_of(pdu, server_name, verify_key.key_id)
    verify_key.verify(signing_bytes(pdu, rules) if signed is None else signed, signature)


def signature_key_ids(pdu: dict[str, Any], server_name: str) -> list[str]:
    """Ids of the keys by which `server_name` claims to have signed; of algorithms we understand only."""
    signatures = pdu.get("signatures")
    by_key = signatures.get(server_name) if type(signatures) is dict else None
    if type(by_key) is not dict:
        return []
    # "Removes any signing key identifiers from the entry with algorithms it doesn't understand."
    return [key_id for key_id in by_key if type(key_id) is str and key_id.startswith(ALGORITHM + ":")]


def required_signers(pdu: dict[str, Any], rules: RoomRules) -> frozenset[str]:
    """Names of the servers without whose valid signature the event is dropped. `pdu` passed the format check."""
    content, is_member = pdu["content"], pdu["type"] == "m.room.member"
    signers = set()
    # "For room versions 3 and later, unless the event is a 3rd party invite, only the signature(s) from the
    # originating server (the server the `sender` belongs to) are required"
    third_party = is_member and content.get("membership") == "invite" and "third_party_invite" in content
    if not third_party:
        signers.add(domain_of(pdu["sender"]))
    # "Room versions 1 and 2 also require that a signature is present from the domain in the `event_id`"
    if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
        signers.add(str(pdu["event_id"]).partition(":")[2])
    # v8+, member rule: "If `content` has a `join_authorised_via_users_server` key: If the event is not validly signed
    # by the homeserver of the user ID denoted by the key, reject." What is no user id, the auth rules reject.
    # NOTSPEC: the key is looked at in joins only, as in Synapse; elsewhere nothing reads it.
    if rules.restricted_join and is_member and content.get("membership") == "join":
        authoriser = content.get("join_authorised_via_users_server")
        if type(authoriser) is str and is_user_id(authoriser):
            signers.add(domain_of(authoriser))
    return frozenset(signers)


def sign_json(value: dict[str, Any], signer: str, key: SigningKey) -> dict[str, Any]:
    """The object with a signature added ("Signing Details"); `value` itself stays as it is."""
    return _with_signature(value, signer, key.key_id, key.sign(_json_bytes(value)))


def verify_json(value: dict[str, Any], signer: str, verify_key: VerifyKey) -> None:
    """Raise `SignatureInvalid` unless `signer` signed the object by this key ("Checking for a Signature")."""
    verify_key.verify(_json_bytes(value), _signature_of(value, signer, verify_key.key_id))


def encode_base64(raw: bytes) -> str:
    """Unpadded base64."""
    return b64encode(raw).decode("ascii").rstrip("=")


def decode_base64(text: str) -> bytes:
    """The bytes of base64 with or without padding, standard or URL-safe; raises `SignatureInvalid`."""
    standard = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (Base64Error, ValueError) as error:
        raise SignatureInvalid(f"not base64: {error}") from None


def _json_bytes(value: dict[str, Any]) -> bytes:
    # "encoding the JSON object without `signatures` or keys grouped as `unsigned`"
    return canonical_bytes({key: item for key, item in value.items() if key not in ("signatures", "unsigned")})


def _signature_of(value: dict[str, Any], signer: str, key_id: str) -> str:
    signatures = value.get("signatures")
    by_key = signatures.get(signer) if type(signatures) is dict else None
    signature = by_key.get(key_id) if type(by_key) is dict else None
    if type(signature) is not str:
        raise SignatureInvalid(f"no signature by {signer[:300]!r} with {key_id[:300]!r}")
    return signature


def _with_signature(value: dict[str, Any], signer: str, key_id: str, signature: str) -> dict[str, Any]:
    signatures = value.get("signatures", {})
    return {**value, "signatures": {**signatures, signer: {**signatures.get(signer, {}), key_id: signature}}}
