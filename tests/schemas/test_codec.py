"""Facts to bytes and back."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annals.schemas import codec
from annals.schemas.codec import decode, decoder_passing, encode, fingerprint_in, learn, schema_file
from annals.schemas.errors import SchemaMismatch, Undecodable, Unencodable, UnknownSchema
from annals.schemas.facts.decisions import Mark, Resumed, Verdict
from annals.schemas.facts.envelope import Envelope, Sealed
from annals.schemas.facts.rooms import PduCreated, PduFact, PduReceived, SignatureChecked
from annals.schemas.facts.users import DeviceLoggedOut
from annals.schemas.fingerprint import PREFIX_BYTES, fingerprint_of
from annals.schemas.plain import from_plain, to_plain
from tests.support.fact_strategies import FACTS, facts
from tests.support.soak import few_examples

ENVELOPE = Envelope(1_790_000_000_000, "api-1", "0.1.0")
PDU = PduCreated(ENVELOPE, "!r", "$e", "12", b"{}", Sealed("k", b"nonce", b"data"))
VERDICT = Verdict("!r", 1 << 40, 7, 1, 1, True, "$e", "accepted", extremities_added=("$e",), current_fingerprint=b"f")

_SOMETHING: dict[str, Any] = {
    "rule": "rule",
    "reason": "reason",
    "outlier": True,
    "backfilled": True,
    "provisional": True,
    "first": True,
    "state_before": 3,
    "state_after": 4,
    "extremities_added": ("$a", "$b"),
    "extremities_removed": ("$c",),
    "current_state_id": 5,
    "current_fingerprint": b"f",
    "min_depth": 6,
    "replaces": "$d",
    "redaction_waits_for": "$f",
    "redactions_settled": ("$g",),
    "missing": ("$h",),
}


def _with(fact: Any, **changes: Any) -> Any:
    return dataclasses.replace(fact, **changes)


def _prefix(value: bytes) -> bytes:
    return value[:PREFIX_BYTES]


@pytest.mark.parametrize("cls", FACTS, ids=lambda cls: cls.__name__)
@few_examples(6)
@given(data=st.data())
def test_a_fact_comes_back_as_it_went(cls: type, data: st.DataObject) -> None:
    fact = data.draw(facts(cls))
    assert decode(encode(fact)) == fact


@pytest.mark.parametrize("cls", FACTS, ids=lambda cls: cls.__name__)
@few_examples(4)
@given(data=st.data())
def test_the_bytes_are_those_of_fastavro(cls: type, data: st.DataObject) -> None:
    fact = data.draw(facts(cls))
    value, schema, body = encode(fact), schema_file(cls).schema, io.BytesIO()
    fastavro.schemaless_writer(body, schema, to_plain(fact))
    assert value[PREFIX_BYTES:] == body.getvalue()
    read: Any = fastavro.schemaless_reader(io.BytesIO(value[PREFIX_BYTES:]), schema, None)
    assert from_plain(cls, read) == fact


_UNREAD = frozenset(("recorded_at_ms", "writer", "cause", "body", "via", "signatures"))


@pytest.mark.parametrize("cls", [cls for cls in FACTS if issubclass(cls, PduFact)], ids=lambda cls: cls.__name__)
@few_examples(6)
@given(data=st.data())
def test_what_is_not_asked_for_is_not_made(cls: type, data: st.DataObject) -> None:
    fact: Any = data.draw(facts(cls))
    some = decoder_passing(PduFact, _UNREAD)(encode(fact))
    for whole, part in ((fact, some), (fact.envelope, some.envelope)):
        assert type(part) is type(whole)
        for field in dataclasses.fields(whole):
            if field.name in _UNREAD:
                with pytest.raises(AttributeError):
                    getattr(part, field.name)
            elif field.name != "envelope":
                assert getattr(part, field.name) == getattr(whole, field.name)


def test_facts_of_which_all_is_asked_for_are_whole() -> None:
    fact = DeviceLoggedOut(ENVELOPE, "@ann:test", "A")
    assert decoder_passing(PduFact, _UNREAD)(encode(fact)) == fact


def test_a_torn_record_is_undecodable_where_it_is_not_read() -> None:
    checked = (SignatureChecked("a", "ed25519:1", "valid"), SignatureChecked("b", "ed25519:2", "invalid"))
    value = encode(PduReceived(ENVELOPE, "!r", "$e", "12", b"{}", b"{}", "a", "t" * 200, checked, True))
    some = decoder_passing(PduFact, _UNREAD)
    assert some(value).content_hash_ok
    for torn in (*(value[:end] for end in range(len(value))), value + b"\0"):
        with pytest.raises(Undecodable):
            some(torn)


def test_a_record_begins_with_marker_and_fingerprint() -> None:
    value = encode(PDU)
    assert value[:2] == b"\xc3\x01"
    assert value[2:10] == fingerprint_in(value) == schema_file(PduCreated).fingerprint


@pytest.mark.parametrize("fact", [PDU, VERDICT], ids=["pdu", "verdict"])
def test_a_torn_record_is_undecodable(fact: object) -> None:
    value = encode(fact)
    for length in range(len(value)):
        with pytest.raises(Undecodable):
            decode(value[:length])
    with pytest.raises(Undecodable):
        decode(value + b"\0")


@settings(max_examples=200)
@given(body=st.binary(max_size=80), fact=st.sampled_from([PDU, VERDICT]))
def test_any_body_gives_a_fact_or_undecodable(body: bytes, fact: object) -> None:
    with contextlib.suppress(Undecodable):
        assert type(decode(_prefix(encode(fact)) + body)) is type(fact)


@pytest.mark.parametrize("size", [2, 64], ids=["one byte", "two bytes"])
def test_a_negative_length_is_undecodable(size: int) -> None:
    # Zigzag: the lowest bit is the sign, so that nothing but the sign is wrong here.
    value = bytearray(encode(_with(VERDICT, room_id="r" * size)))
    assert value[PREFIX_BYTES] & 127 == (size << 1) & 127
    value[PREFIX_BYTES] |= 1
    with pytest.raises(Undecodable):
        decode(bytes(value))


@pytest.mark.parametrize("number", [b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x02"], ids=["11 bytes", "65 bits"])
def test_an_integer_of_more_than_64_bits_is_undecodable(number: bytes) -> None:
    value = encode(Mark(64, 1, "w"))
    assert value[PREFIX_BYTES : PREFIX_BYTES + 2] == b"\x80\x01"
    with pytest.raises(Undecodable):
        decode(_prefix(value) + number + value[PREFIX_BYTES + 2 :])


def test_no_branch_and_no_flag() -> None:
    value = encode(DeviceLoggedOut(ENVELOPE, "@a:b", "D"))
    cause = value.index(b"0.1.0") + 5
    with pytest.raises(Undecodable):
        decode(value[:cause] + b"\x04" + value[cause + 1 :])
    resumed = bytearray(encode(Resumed("!r", 1, 1, 1, 1, True)))
    assert resumed[-2] == 1
    resumed[-2] = 2
    with pytest.raises(Undecodable):
        decode(bytes(resumed))


def test_an_array_in_several_sized_blocks() -> None:
    # Avro lets a writer cut an array into blocks, and give a block's size behind a negative count.
    head = encode(Resumed("!r", 1, 1, 1, 1, True))[:-1]
    assert decode(head + bytes([2, 10, 3, 4, 12, 14, 0])).skip == (5, 6, 7)


def test_an_array_whose_end_takes_more_bytes_than_it_must() -> None:
    head = encode(Resumed("!r", 1, 1, 1, 1, True))[:-1]
    assert decode(head + b"\x80\0").skip == ()
    assert decode(head + bytes([2, 10, 0x80, 0])).skip == (5,)


@pytest.mark.parametrize("bits", range(64))
def test_integers_of_all_lengths(bits: int) -> None:
    for number in {(1 << bits) - 1, -(1 << bits), (1 << bits) // 3}:
        assert decode(encode(Mark(number, 1, "w"))) == Mark(number, 1, "w")


def test_nothing_between_values_and_values_between_nothing() -> None:
    bare = {field.name: field.default for field in dataclasses.fields(Verdict)}
    filled = [_with(VERDICT, **{name: value}) for name, value in _SOMETHING.items()]
    assert [decode(encode(verdict)) for verdict in filled] == filled
    for name in _SOMETHING:
        emptied = _with(VERDICT, **_SOMETHING | {name: bare[name]})
        assert decode(encode(emptied)) == emptied


@pytest.mark.parametrize(
    "fact",
    [
        _with(VERDICT, position=1 << 63),
        _with(VERDICT, position=-(1 << 63) - 1),
        _with(VERDICT, position=1.5),
        _with(VERDICT, room_id=None),
        _with(VERDICT, event_id="\ud800"),
        _with(VERDICT, outlier=None),
        _with(VERDICT, current_fingerprint="text"),
        _with(PDU, body="text"),
        _with(PDU, body=None),
        _with(PDU, envelope=None),
        ENVELOPE,
        "no fact",
    ],
    ids=repr,
)
def test_what_does_not_fit_is_unencodable(fact: object) -> None:
    with pytest.raises(Unencodable):
        encode(fact)


def test_an_unknown_fingerprint() -> None:
    with pytest.raises(UnknownSchema):
        decode(b"\xc3\x01" + b"\x11" * 8 + b"body")


@pytest.mark.parametrize("value", [b"", b"\xc3\x01", b"\xc3\x02" + b"\x11" * 8, b'{"json": "is no record"}'])
def test_what_is_no_single_object_encoding(value: bytes) -> None:
    with pytest.raises(Undecodable) as caught:
        decode(value)
    assert caught.type is Undecodable
    with pytest.raises(Undecodable):
        fingerprint_in(value)


def test_a_writer_that_the_log_taught() -> None:
    writer = json.loads(schema_file(Mark).text)
    writer["fields"] = [f for f in writer["fields"] if f["name"] != "writer"] + [{"name": "writer", "type": "string"}]
    writer["fields"].append({"name": "host", "type": "string", "default": ""})
    body = io.BytesIO()
    fastavro.schemaless_writer(body, writer, {"epoch": 3, "decide_version": 2, "writer": "w", "host": "h"})
    value = b"\xc3\x01" + fingerprint_of(writer) + body.getvalue()
    with pytest.raises(UnknownSchema):
        decode(value)
    assert learn(json.dumps(writer)) == fingerprint_of(writer)
    assert decode(value) == Mark(3, 2, "w")
    with pytest.raises(Undecodable):
        decode(value[:-1])
    with pytest.raises(Undecodable):
        decode(value + b"\0")


def test_a_schema_of_our_own_that_is_on_the_log_is_read_by_generated_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolving(*_: object) -> None:
        raise AssertionError("read through schema resolution, which is ten times as slow")

    monkeypatch.setattr(codec, "_DECODERS", codec._Decoders())
    monkeypatch.setattr(codec, "_resolving_decoder", resolving)
    learn(schema_file(Mark).text)
    assert decode(encode(Mark(3, 2, "w"))) == Mark(3, 2, "w")


def test_a_kind_of_fact_that_this_code_lacks_stays_unknown() -> None:
    schema = {"type": "record", "name": "FromTheFuture", "namespace": "annals.rooms", "fields": []}
    fingerprint = learn(json.dumps(schema))
    with pytest.raises(UnknownSchema):
        decode(b"\xc3\x01" + fingerprint)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"type": "record", "name": "X", "namespace": "y", "fields": 1}'])
def test_what_is_no_schema_is_not_learned(text: str) -> None:
    with pytest.raises(Undecodable):
        learn(text)


def test_a_dataclass_that_differs_from_its_schema_is_not_written() -> None:
    changed = dataclasses.make_dataclass("Mark", [("epoch", int), ("decide_version", int)], frozen=True, slots=True)
    changed.__module__ = Mark.__module__
    with pytest.raises(SchemaMismatch):
        encode(changed(1, 1))
