"""Key answers: what is refused, and how long a key may be believed."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import signedjson.sign
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.server_keys import KeysInvalid, KnownKey, better_of, known_keys, read_server_keys
from annals.matrix.signing import VerifyKey
from tests.support.pdu_strategies import any_values
from tests.support.scripted_peer import public_base64, reference_key

DAY_MS = 24 * 3600 * 1000
NOW_MS = 100 * DAY_MS
ONE, TWO, OLD = reference_key("1"), reference_key("2"), reference_key("old")


def answer(*signers: Any, **changes: Any) -> dict[str, Any]:
    value = {
        "server_name": "a.example",
        "verify_keys": {"ed25519:1": {"key": public_base64(ONE)}, "ed25519:2": {"key": public_base64(TWO)}},
        "old_verify_keys": {"ed25519:old": {"key": public_base64(OLD), "expired_ts": 50 * DAY_MS}},
        "valid_until_ts": NOW_MS + DAY_MS,
        **changes,
    }
    for signer in signers or (ONE, TWO):
        signedjson.sign.sign_json(value, "a.example", signer)
    return value


def test_current_and_old_keys_are_told_apart() -> None:
    keys = read_server_keys(answer())
    assert (keys.server, set(keys.current), set(keys.old)) == ("a.example", {"ed25519:1", "ed25519:2"}, {"ed25519:old"})
    known = known_keys(keys, NOW_MS, is_direct=True)
    assert known["ed25519:1"].key.base64 == public_base64(ONE)
    assert (known["ed25519:1"].valid_until_ms, known["ed25519:1"].is_current) == (NOW_MS + DAY_MS, True)
    assert (known["ed25519:old"].valid_until_ms, known["ed25519:old"].is_current) == (50 * DAY_MS, False)


def test_no_key_is_believed_longer_than_seven_days() -> None:
    known = known_keys(read_server_keys(answer(valid_until_ts=2**60)), NOW_MS, is_direct=True)
    assert known["ed25519:1"].valid_until_ms == NOW_MS + 7 * DAY_MS


def test_an_old_key_is_never_one_of_the_future() -> None:
    old = {"ed25519:old": {"key": public_base64(OLD), "expired_ts": 2**60}}
    known = known_keys(read_server_keys(answer(old_verify_keys=old)), NOW_MS, is_direct=True)
    assert known["ed25519:old"].valid_until_ms == NOW_MS


def test_one_of_the_current_keys_must_have_signed() -> None:
    read_server_keys(answer(TWO))
    for bad in (
        answer(OLD),
        {**answer(), "signatures": {}},
        {**answer(), "valid_until_ts": NOW_MS},
        {**answer(), "signatures": {"b.example": answer()["signatures"]["a.example"]}},
        {**answer(), "signatures": {"a.example": {"ed25519:1": "AAAA", **answer(TWO)["signatures"]["a.example"]}}},
    ):
        with pytest.raises(KeysInvalid):
            read_server_keys(bad)


@pytest.mark.parametrize("name", ["server_name", "verify_keys", "valid_until_ts"])
@given(value=any_values)
def test_any_value_in_a_field_is_read_or_refused(name: str, value: Any) -> None:
    bad = deepcopy(answer())
    bad[name] = value
    for candidate in (bad, value):
        with pytest.raises(KeysInvalid):
            read_server_keys(candidate)


def test_keys_that_are_none_do_not_harm_their_neighbours() -> None:
    odd = {"rsa:1": {"key": "x"}, "ed25519:a": {"key": "short"}, "ed25519:b": 1, "ed25519:c": {"key": 2}}
    good = answer()["verify_keys"]
    assert set(read_server_keys(answer(verify_keys={**odd, **good})).current) == set(good)


def known(public: int, until: int, *, current: bool = True, direct: bool = True, at: int = 0) -> KnownKey:
    return KnownKey(VerifyKey("ed25519:1", bytes([public]) * 32), until, current, direct, at)


@pytest.mark.parametrize(
    ("before", "found", "is_taken"),
    [
        (known(1, 5, at=1), known(2, 3, at=2), True),  # the server has a new key under an old id
        (known(1, 5, at=3), known(2, 9, at=2), False),
        (known(1, 5, direct=False, at=3), known(2, 3, at=2), True),
        (known(1, 5), known(2, 9, direct=False, at=9), False),  # a notary never overrules the server
        (known(1, 5), known(1, 9, direct=False, at=9), True),
        (known(1, 5), known(1, 4, direct=False, at=9), False),
        (known(1, 5, current=False), known(1, 9, direct=False, at=9), False),
        (known(1, 5, direct=False), known(2, 9, direct=False), True),
    ],
)
def test_which_of_two_keys_counts(before: KnownKey, found: KnownKey, is_taken: bool) -> None:
    assert better_of(None, found) is found
    assert better_of(before, found) is (found if is_taken else before)


@given(st.binary(min_size=32, max_size=32))
def test_every_32_bytes_can_be_a_key_of_an_answer(public: bytes) -> None:
    key = {"key": VerifyKey("ed25519:9", public).base64}
    value = answer(ONE, verify_keys={"ed25519:1": {"key": public_base64(ONE)}, "ed25519:9": key})
    assert read_server_keys(value).current["ed25519:9"].public == public
