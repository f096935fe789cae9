"""Personal fields, encrypted under a key of their subject (XChaCha20-Poly1305), so that erasing the key erases them.

The subjects' keys are on the log, wrapped by the master key, a file outside the log and its backups. Everything here is
pure: random bytes (keys, nonces) are arguments. What is sealed is bound to its subject and its field, so that it cannot
be put in another's place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nacl import bindings
from nacl.exceptions import CryptoError

from annals.schemas.errors import KeyGone, SealBroken
from annals.schemas.facts.envelope import Envelope, Sealable, Sealed
from annals.schemas.facts.subject_keys import SubjectKeyMade

KEY_BYTES = bindings.crypto_aead_xchacha20poly1305_ietf_KEYBYTES
NONCE_BYTES = bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """The key of one subject (a user id), in clear: it stays in memory. `key` is 32 bytes."""

    user_id: str
    key_id: str
    key: bytes

    def __repr__(self) -> str:
        return f"SubjectKey({self.user_id!r}, {self.key_id!r})"


def make_subject_key(user_id: str, random_bytes: bytes) -> SubjectKey:
    """A new key of 32 fresh random bytes; its id is the start of its hash, so that no two of a subject share one."""
    if len(random_bytes) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(random_bytes)}")
    return SubjectKey(user_id, bindings.crypto_hash_sha256(b"key id" + random_bytes)[:8].hex(), random_bytes)


def wrap(subject: SubjectKey, master_key: bytes, nonce: bytes, envelope: Envelope) -> SubjectKeyMade:
    """The fact that puts a subject's key on the log, wrapped by the master key (32 bytes)."""
    wrapped = _encrypt(subject.key, _bound(subject.user_id, f"key {subject.key_id}"), nonce, master_key)
    return SubjectKeyMade(envelope, subject.user_id, subject.key_id, nonce, wrapped)


def unwrap(fact: SubjectKeyMade, master_key: bytes) -> SubjectKey:
    """The subject's key in clear. SealBroken where another master key wrapped it."""
    key = _decrypt(fact.wrapped_key, _bound(fact.user_id, f"key {fact.key_id}"), fact.nonce, master_key)
    return SubjectKey(fact.user_id, fact.key_id, key)


def seal(plain: bytes, field: str, subject: SubjectKey, nonce: bytes) -> Sealed:
    """`plain` under the subject's key, for the field of that name. A nonce (24 random bytes) is for one use."""
    return Sealed(subject.key_id, nonce, _encrypt(plain, _bound(subject.user_id, field), nonce, subject.key))


def open_sealed(sealed: Sealed, field: str, subject: SubjectKey | None) -> bytes:
    """The plain bytes. KeyGone where there is no key any more; SealBroken where this key or field is not the one."""
    if subject is None:
        raise KeyGone(f"the key {sealed.key_id} is erased")
    if subject.key_id != sealed.key_id:
        raise SealBroken(f"sealed under key {sealed.key_id}, not {subject.key_id}")
    return _decrypt(sealed.data, _bound(subject.user_id, field), sealed.nonce, subject.key)


def open_field(value: Sealable, field: str, keys: Mapping[str, SubjectKey]) -> bytes:
    """The plain bytes of a personal field, sealed or not; `keys` is by key id. KeyGone and SealBroken as above."""
    return open_sealed(value, field, keys.get(value.key_id)) if isinstance(value, Sealed) else value


def _bound(user_id: str, field: str) -> bytes:
    # No field's name holds a NUL: two pairs never give the same bytes.
    return f"{field}\0{user_id}".encode()


def _encrypt(plain: bytes, bound: bytes, nonce: bytes, key: bytes) -> bytes:
    return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, bound, nonce, key)


def _decrypt(data: bytes, bound: bytes, nonce: bytes, key: bytes) -> bytes:
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(data, bound, nonce, key)
    except (CryptoError, ValueError) as error:
        raise SealBroken("the sealed bytes do not open") from error
