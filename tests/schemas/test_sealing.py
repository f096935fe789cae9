"""Personal fields, sealed under their subject's key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from annals.schemas.codec import decode, encode
from annals.schemas.errors import KeyGone, SealBroken
from annals.schemas.facts.envelope import Envelope
from annals.schemas.sealing import (
    KEY_BYTES,
    NONCE_BYTES,
    make_subject_key,
    open_field,
    open_sealed,
    seal,
    unwrap,
    wrap,
)

NONCE, MASTER = b"n" * NONCE_BYTES, b"m" * KEY_BYTES
ALICE = make_subject_key("@alice:example.org", b"a" * KEY_BYTES)
BOB = make_subject_key("@bob:example.org", b"b" * KEY_BYTES)
ENVELOPE = Envelope(1, "api-1", "0.1.0")


def test_a_field_opens_with_its_key() -> None:
    sealed = seal(b"Alice", "displayname", ALICE, NONCE)
    assert b"Alice" not in sealed.data
    assert open_sealed(sealed, "displayname", ALICE) == b"Alice"
    assert open_field(sealed, "displayname", {ALICE.key_id: ALICE}) == b"Alice"
    assert open_field(b"plain", "displayname", {}) == b"plain"


def test_an_erased_key_opens_nothing() -> None:
    sealed = seal(b"Alice", "displayname", ALICE, NONCE)
    with pytest.raises(KeyGone):
        open_sealed(sealed, "displayname", None)
    with pytest.raises(KeyGone):
        open_field(sealed, "displayname", {BOB.key_id: BOB})


def test_a_sealed_field_cannot_be_moved_or_altered() -> None:
    sealed = seal(b"Alice", "displayname", ALICE, NONCE)
    for field, key in (
        ("avatar_url", ALICE),
        ("displayname", BOB),
        ("displayname", replace(BOB, key_id=ALICE.key_id)),
        ("displayname", replace(ALICE, user_id=BOB.user_id)),
    ):
        with pytest.raises(SealBroken):
            open_sealed(sealed, field, key)
    for broken in (replace(sealed, data=sealed.data[:-1]), replace(sealed, data=b""), replace(sealed, nonce=b"")):
        with pytest.raises(SealBroken):
            open_sealed(broken, "displayname", ALICE)


def test_a_subject_key_travels_wrapped() -> None:
    fact = wrap(ALICE, MASTER, NONCE, ENVELOPE)
    assert ALICE.key not in encode(fact)
    assert unwrap(decode(encode(fact)), MASTER) == ALICE


def test_another_master_key_does_not_unwrap() -> None:
    fact = wrap(ALICE, MASTER, NONCE, ENVELOPE)
    with pytest.raises(SealBroken):
        unwrap(fact, b"x" * KEY_BYTES)
    with pytest.raises(SealBroken):
        unwrap(replace(fact, user_id=BOB.user_id), MASTER)


def test_a_key_has_32_bytes_and_an_id_of_its_own() -> None:
    with pytest.raises(ValueError, match="32"):
        make_subject_key("@a:b", b"short")
    assert ALICE.key_id != BOB.key_id
    assert "a" * 8 not in repr(ALICE)
