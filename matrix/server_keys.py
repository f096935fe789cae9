"""The keys that servers publish (server-server API, "Retrieving server keys"), and how long each may be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from annals.matrix.errors import MatrixError, SignatureInvalid
from annals.matrix.identifiers import is_server_name
from annals.matrix.signing import (
    ALGORITHM,
    KEY_VALIDITY_MAX_MS,
    VerifyKey,
    decode_base64,
    signature_key_ids,
    verify_json,
)

COMPROMISED: frozenset[bytes] = frozenset(
    decode_base64(text)
    for text in (
        # ELEMENTSEC-2025-1670, CVE-2026-24044: its private half is known to everybody.
        "l/O9hxMVKB6Lg+3Hqf0FQQZhVESQcMzbPN1Cz2nM3og",
    )
)
"""Public keys that vouch for nothing, whoever publishes them."""

_KEY_ID_MAX = 255
_MS_MAX = 2**63 - 1


class KeysInvalid(MatrixError):
    """An answer about a server's keys is malformed, or not signed by that server."""


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What a server says about its keys, signed by one of them. All times in milliseconds."""

    server: str
    valid_until_ms: int
    """For the `current` ones, as the server says; `known_keys` has what we make of it."""
    current: Mapping[str, VerifyKey]
    old: Mapping[str, tuple[VerifyKey, int]]
    """Keys for events only, with the time at which the server stopped using them."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key of a server, as far as we know it."""

    key: VerifyKey
    valid_until_ms: int
    """It vouches for nothing later."""
    is_current: bool
    """Only a current key signs requests."""
    is_direct: bool
    """From the server itself, not from a notary."""
    fetched_at_ms: int


def read_server_keys(answer: Any) -> ServerKeys:
    """The keys in an answer of GET /_matrix/key/v2/server, or in one item of a notary's; raises `KeysInvalid`.

    That the answer is from the right server, or signed by the notary, is the caller's to check.
    """
    if type(answer) is not dict:
        raise KeysInvalid("not an object")
    server, valid_until_ms = answer.get("server_name"), answer.get("valid_until_ts")
    if type(server) is not str or not is_server_name(server):
        raise KeysInvalid("server_name is missing or no server name")
    if type(valid_until_ms) is not int or not 0 <= valid_until_ms <= _MS_MAX:
        raise KeysInvalid("valid_until_ts is missing or no time")
    current = {key_id: key for key_id, key, _ in _keys_in(answer.get("verify_keys"))}
    old = {
        key_id: (key, expired_ms)
        for key_id, key, entry in _keys_in(answer.get("old_verify_keys", {}))
        if type(expired_ms := entry.get("expired_ts")) is int and 0 <= expired_ms <= _MS_MAX and key_id not in current
    }
    _check_signed_by_itself(answer, server, current)
    return ServerKeys(server, valid_until_ms, current, old)


def known_keys(keys: ServerKeys, fetched_at_ms: int, *, is_direct: bool) -> dict[str, KnownKey]:
    """What an answer that came at that time lets us believe."""
    # "Servers MUST use the lesser of this field and 7 days into the future when determining if a key is valid."
    until_ms = min(keys.valid_until_ms, fetched_at_ms + KEY_VALIDITY_MAX_MS)
    found = {key_id: KnownKey(key, until_ms, True, is_direct, fetched_at_ms) for key_id, key in keys.current.items()}
    for key_id, (key, expired_ms) in keys.old.items():
        # An old key has been retired already, whatever it says.
        found[key_id] = KnownKey(key, min(expired_ms, fetched_at_ms), False, is_direct, fetched_at_ms)
    return found


def better_of(known: KnownKey | None, found: KnownKey) -> KnownKey:
    """Which to keep of what was known under a key id and what was found now. A notary never overrules the server."""
    if known is None:
        return found
    if found.is_direct:
        return found if found.fetched_at_ms >= known.fetched_at_ms or not known.is_direct else known
    if known.is_direct and (known.key.public != found.key.public or not known.is_current):
        return known
    return found if found.valid_until_ms > known.valid_until_ms else known


def _keys_in(entries: Any) -> list[tuple[str, VerifyKey, dict[str, Any]]]:
    if type(entries) is not dict:
        raise KeysInvalid("verify_keys is missing or not an object")
    found = []
    for key_id, entry in entries.items():
        text = entry.get("key") if type(entry) is dict else None
        # Keys of other algorithms, or that are none, are no reason to lose those beside them.
        if not key_id.startswith(ALGORITHM + ":") or len(key_id) > _KEY_ID_MAX or type(text) is not str:
            continue
        try:
            found.append((key_id, VerifyKey.from_base64(key_id, text), entry))
        except SignatureInvalid:
            continue
    return found


def _check_signed_by_itself(answer: dict[str, Any], server: str, current: Mapping[str, VerifyKey]) -> None:
    signed_by = [current[key_id] for key_id in signature_key_ids(answer, server) if key_id in current]
    if not signed_by:
        raise KeysInvalid("not signed by any of the keys in it")
    try:
        for key in signed_by:
            verify_json(answer, server, key)
    except MatrixError as error:
        raise KeysInvalid(f"not signed by the server itself: {error}") from None
