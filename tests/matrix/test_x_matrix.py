"""X-Matrix: the spec's example code, its grammar, and what must not pass."""

from __future__ import annotations

from typing import Any

import pytest
import signedjson.key
import signedjson.sign
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.errors import SignatureInvalid
from annals.matrix.signing import SigningKey, encode_base64
from annals.matrix.x_matrix import XMatrix, XMatrixInvalid, authorization, parse_authorization, verify
from tests.support.pdu_strategies import strict_values, texts

SEED = bytes(range(32))
KEY = SigningKey("ed25519:key1", SEED)
REFERENCE = signedjson.key.decode_signing_key_base64("ed25519", "key1", encode_base64(SEED))
ORIGIN, US, TARGET = "origin.hs.example.com", "destination.hs.example.com:8448", "/_matrix/federation/v1/send/1?a=b%20c"


def reference_header(method: str, target: str, content: Any) -> str:
    """As the example code of the specification makes it."""
    value = {"method": method, "uri": target, "origin": ORIGIN, "destination": US}
    if content is not None:
        value["content"] = content
    signed = signedjson.sign.sign_json(value, ORIGIN, REFERENCE)
    [(key, sig)] = signed["signatures"][ORIGIN].items()
    return f'X-Matrix origin="{ORIGIN}",destination="{US}",key="{key}",sig="{sig}"'


@given(st.none() | st.dictionaries(texts, strict_values, max_size=3))
def test_the_header_is_that_of_the_specification(content: dict[str, Any] | None) -> None:
    header = authorization(ORIGIN, US, KEY, "PUT", TARGET, content)
    assert header == reference_header("PUT", TARGET, content)
    verify(parse_authorization(header), US, KEY.verify_key, "PUT", TARGET, content)


@pytest.mark.parametrize(
    "header",
    [
        'X-Matrix origin="o.example",destination="d.example",key="ed25519:1",sig="ab/+="',
        "X-Matrix origin=o.example,destination=d.example,key=ed25519:1,sig=ab/+=",
        'x-matrix   ORIGIN=o.example \t,\tDestination="d.example" , Key="ed25519:1",,sig="ab/+=",',
        r'X-Matrix origin="o\.example",destination="d.exam\ple",key="ed25519:\1",sig="ab/+="',
        'X-Matrix sig="ab/+=",other="a,b=\\"c",key="ed25519:1",destination="d.example",origin="o.example"',
        'X-Matrix origin="o.example",destination="d.example",key="ed25519:1",signature="ab/+="',
    ],
)
def test_every_spelling_that_the_grammar_allows_is_read(header: str) -> None:
    assert parse_authorization(header) == XMatrix("o.example", "d.example", "ed25519:1", "ab/+=")


def test_older_servers_name_no_destination() -> None:
    claimed = parse_authorization('X-Matrix origin=o.example:80,key="ed25519:1",sig="ab"')
    assert claimed == XMatrix("o.example:80", None, "ed25519:1", "ab")
    signed = signedjson.sign.sign_json({"method": "GET", "uri": "/x", "origin": ORIGIN}, ORIGIN, REFERENCE)
    old = XMatrix(ORIGIN, None, "ed25519:key1", signed["signatures"][ORIGIN]["ed25519:key1"])
    verify(old, US, KEY.verify_key, "GET", "/x")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer abc",
        "X-Matrix",
        'X-Matrix origin="o.example",key="ed25519:1"',
        'X-Matrix origin="o.example",sig="ab"',
        'X-Matrix key="ed25519:1",sig="ab"',
        'X-Matrix origin="not a name",key="ed25519:1",sig="ab"',
        'X-Matrix origin="o.example",key="rsa:1",sig="ab"',
        'X-Matrix origin="o.example" key="ed25519:1",sig="ab"',
        'X-Matrix origin="o.example",key="ed25519:1",sig="ab',
        'X-Matrix origin="o.example",origin="p.example",key="ed25519:1",sig="ab"',
        'X-Matrix origin="o.example",ORIGIN="p.example",key="ed25519:1",sig="ab"',
        'X-Matrix origin="o.example",key="ed25519:1",sig="ab",x="' + "y" * 5000 + '"',
    ],
)
def test_what_is_none_is_refused(header: str) -> None:
    with pytest.raises(XMatrixInvalid):
        parse_authorization(header)


@given(st.text(max_size=80))
def test_any_header_is_read_or_refused(text: str) -> None:
    for header in (text, "X-Matrix " + text, 'X-Matrix origin="o.example",' + text):
        try:
            parse_authorization(header)
        except XMatrixInvalid:
            continue


@pytest.mark.parametrize(
    ("method", "target", "content", "us"),
    [
        ("POST", TARGET, {"a": 1}, US),
        ("PUT", TARGET + "1", {"a": 1}, US),
        ("PUT", TARGET, {"a": 2}, US),
        ("PUT", TARGET, None, US),
        ("PUT", TARGET, {"a": 1}, "other.example"),
        ("PUT", TARGET, {"a": 1}, US.upper()),
    ],
)
def test_a_signature_is_for_one_request_to_one_server(method: str, target: str, content: Any, us: str) -> None:
    claimed = parse_authorization(authorization(ORIGIN, US, KEY, "PUT", TARGET, {"a": 1}))
    with pytest.raises((XMatrixInvalid, SignatureInvalid)):
        verify(claimed, us, KEY.verify_key, method, target, content)


def test_the_destination_cannot_be_left_out_of_a_signed_request() -> None:
    claimed = parse_authorization(authorization(ORIGIN, "other.example", KEY, "GET", TARGET))
    bare = XMatrix(claimed.origin, None, claimed.key_id, claimed.signature)
    with pytest.raises(SignatureInvalid):
        verify(bare, US, KEY.verify_key, "GET", TARGET)


def test_the_key_must_be_the_one_that_is_claimed() -> None:
    claimed = parse_authorization(authorization(ORIGIN, US, KEY, "GET", TARGET))
    with pytest.raises(XMatrixInvalid):
        verify(claimed, US, SigningKey("ed25519:key2", SEED).verify_key, "GET", TARGET)
