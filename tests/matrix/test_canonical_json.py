"""Canonical JSON: the spec's vectors, three encoders held against each other, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import canonicaljson
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.canonical_json import (
    DEPTH_MAX,
    canonical_bytes,
    canonicalise,
    check_strict,
    checked_bytes,
    loads,
    slow_bytes,
    strict_bytes,
)
from annals.matrix.errors import InvalidJson, NotCanonical
from tests.support.pdu_strategies import any_values, strict_values

VECTORS = json.loads((Path(__file__).parent / "vectors" / "spec-appendix.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["canonical_json"], ids=lambda vector: vector["canonical"][:30])
def test_the_appendix(vector: dict[str, str]) -> None:
    assert canonicalise(vector["input"].encode()) == vector["canonical"].encode()


@given(strict_values)
def test_every_encoder_writes_strict_values_alike(value: Any) -> None:
    check_strict(value)
    expected = canonicaljson.encode_canonical_json(value)
    assert checked_bytes(value) == canonical_bytes(value) == slow_bytes(value) == strict_bytes(value) == expected


@given(any_values)
def test_big_integers_and_floats_are_written_as_the_network_hashed_them(value: Any) -> None:
    assert canonical_bytes(value) == slow_bytes(value) == canonicaljson.encode_canonical_json(value)


def typed(value: Any) -> Any:
    """The value with its types, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return [typed(item) for item in value] if isinstance(value, list) else (type(value), value)


@given(any_values)
def test_what_was_written_is_read_back_exactly(value: Any) -> None:
    assert typed(loads(canonical_bytes(value))) == typed(value)


@given(any_values)
def test_reading_is_as_exact_as_the_standard_library(value: Any) -> None:
    text = json.dumps(value)
    assert typed(loads(text)) == typed(json.loads(text))


@given(st.lists(st.characters(exclude_categories=["Cs"]), min_size=2, max_size=8, unique=True))
def test_keys_are_sorted_by_code_point(keys: list[str]) -> None:
    assert list(orjson.loads(canonical_bytes(dict.fromkeys(keys)))) == sorted(keys)


def test_keys_beyond_the_basic_plane_come_last() -> None:
    # In UTF-16 order, U+10000 (D800 DC00) would stand before U+FFFF.
    assert (
        canonical_bytes({"\U00010000": 1, "\uffff": 2, "\ue000": 3})
        == '{"\ue000":3,"\uffff":2,"\U00010000":1}'.encode()
    )


def test_each_control_character_has_its_one_escape() -> None:
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    for code in range(0x250):
        escape = short.get(code, f"\\u{code:04x}" if code < 0x20 else chr(code))
        assert canonical_bytes(chr(code)) == slow_bytes(chr(code)) == f'"{escape}"'.encode()


@pytest.mark.parametrize("integer", [2**53 - 1, -(2**53) + 1, 0, -1])
def test_integers_within_53_bits_are_strict(integer: int) -> None:
    assert strict_bytes([integer]) == b"[%d]" % integer


@pytest.mark.parametrize(
    "text", ["9007199254740992", "-9007199254740992", "1e10", "1.0", "1.5", "-0.0", "18446744073709551616", "1" * 100]
)
def test_other_numbers_are_not_strict(text: str) -> None:
    for value in (loads(text), loads(f'{{"a":[{text}]}}')):
        with pytest.raises(NotCanonical):
            strict_bytes(value)


@pytest.mark.parametrize("integer", [2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**18, 10**19, 10**300])
def test_integers_beyond_64_bits_are_carried_exactly(integer: int) -> None:
    assert loads(f'{{"a":{integer}}}') == {"a": integer}
    assert canonical_bytes({"a": integer}) == b'{"a":%d}' % integer


def test_negative_zero_is_zero() -> None:
    assert strict_bytes(loads("-0")) == b"0"


@pytest.mark.parametrize(
    "text",
    [
        *(b"NaN", b"Infinity", b"-Infinity", b"1e400", b"01", b"+1", b"1.", b"[1,]", b"{a:1}", b"'a'", b"", b"[1] x"),
        *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"\x01"', b"\xef\xbb\xbf{}", b'{"a" 1}'),
        b"1" * 400,
    ],
)
def test_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidJson):
        loads(text)


def test_of_a_duplicate_key_the_last_value_counts() -> None:
    assert loads('{"a":1,"b":2,"a":3}') == {"a": 3, "b": 2}
    assert loads('{"a":1,"a":100000000000000000000}') == {"a": 10**20}


def nested(depth: int, leaf: object = 1) -> object:
    value = leaf
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize("leaf", [1, 2**70, []])
def test_nesting_is_bounded_alike_on_both_paths(leaf: object) -> None:
    most = nested(DEPTH_MAX - (leaf == []), leaf)
    assert canonical_bytes(most) == slow_bytes(most)
    for encode in (canonical_bytes, slow_bytes, strict_bytes):
        with pytest.raises(NotCanonical):
            encode([most])


def test_the_strict_check_has_the_same_bound() -> None:
    check_strict(nested(DEPTH_MAX))
    with pytest.raises(NotCanonical):
        check_strict(nested(DEPTH_MAX + 1))


@pytest.mark.parametrize("depth", [255, 1_000, 2_000, 100_000])
@pytest.mark.parametrize("leaf", ["1", "1" * 30])
def test_deep_texts_are_refused_without_recursion(depth: int, leaf: str) -> None:
    for text in ("[" * depth + leaf + "]" * depth, '{"a":' * depth + leaf + "}" * depth):
        with pytest.raises(InvalidJson):
            loads(text)


def test_many_brackets_are_not_depth() -> None:
    assert loads("[" + "[],{}," * 1000 + '"[[[["]')[-1] == "[[[["


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "\ud800", {"\udfff": 1}, {1: 2}, {None: 1}, (1,), b"a", {1}, [2**70, float("nan")]],
)
def test_what_json_cannot_say_has_no_canonical_form(value: object) -> None:
    for encode in (canonical_bytes, slow_bytes, strict_bytes):
        with pytest.raises(NotCanonical):
            encode(value)
