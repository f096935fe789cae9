"""Parsing and building events: format, size limits, ids, version 12's room ids."""

from __future__ import annotations

import copy
import pickle
from collections import defaultdict
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.building import build_event
from annals.matrix.canonical_json import canonical_bytes, loads
from annals.matrix.errors import InvalidEvent
from annals.matrix.events import Event, event_of, parse_event
from annals.matrix.format import EVENT_BYTES_MAX, without_unsigned
from annals.matrix.hashing import content_hash_matches, reference_hash, signing_bytes
from annals.matrix.redaction import redact
from annals.matrix.room_versions import DEFAULT, ROOM_VERSIONS, V10, V11, V12, RoomRules
from annals.matrix.signing import SigningKey, verify_event
from tests.support import pdu_strategies
from tests.support.at_once import at_once

KEY = SigningKey("ed25519:a_1", bytes(range(32)))
ROOM = "!" + "r" * 43
EVENT_ID = "$" + "e" * 43
GOLDEN_EVENT_ID = "$EVXB4xEdRdGEfe01ShVrLlfXhTjxGP8MPmmWuzpAiPw"
ALL = at_once("rules", ROOM_VERSIONS.values())


def build(rules: RoomRules = V12, **changes: Any) -> Event:
    arguments: dict[str, Any] = {
        "room_id": ROOM,
        "sender": "@alice:a.example",
        "type": "m.room.message",
        "content": {"body": "hello"},
        "state_key": None,
        "prev_events": [EVENT_ID],
        "auth_events": [EVENT_ID],
        "depth": 7,
        "origin_server_ts": 1_700_000_000_000,
        "server_name": "a.example",
        "key": KEY,
        "reference_hashes": defaultdict(lambda: "h" * 43),
    }
    return build_event(rules, **{**arguments, **changes})


@cache
def message_of(rules: RoomRules) -> dict[str, Any]:
    """A PDU that is like any other; nobody changes it."""
    return build(rules).pdu


def build_create(rules: RoomRules = V12, **changes: Any) -> Event:
    room_id = None if rules.room_id_is_create_hash else "!room:a.example"
    start: dict[str, Any] = {
        "room_id": room_id,
        "type": "m.room.create",
        "state_key": "",
        "prev_events": [],
        "auth_events": [],
    }
    return build(rules, **{**start, "content": {"room_version": rules.version}, "depth": 1, **changes})


@ALL
def test_what_we_build_others_accept(rules: RoomRules) -> None:
    event = build(rules, state_key="key")
    assert parse_event(event.pdu, rules) == event
    assert content_hash_matches(event.pdu, rules)
    verify_event(event.pdu, rules, "a.example", KEY.verify_key)
    assert event.key == ("m.room.message", "key")
    assert (event.depth, event.origin_server_ts) == (7, 1_700_000_000_000)
    assert event.prev_events == event.auth_events == (EVENT_ID,)


@given(st.data())
def test_built_events_parse_to_themselves(data: st.DataObject) -> None:
    rules, content = data.draw(pdu_strategies.rules), data.draw(pdu_strategies.contents())
    event = build(rules, content=content, type=data.draw(st.sampled_from(["m.room.member", "m.room.redaction", "x"])))
    assert parse_event(event.pdu, rules) == event
    assert content_hash_matches(event.pdu, rules)


@given(st.data())
def test_generated_pdus_have_the_format(data: st.DataObject) -> None:
    # Guards the other property tests: they would prove nothing over events that nobody accepts.
    rules = data.draw(pdu_strategies.rules)
    pdu = data.draw(pdu_strategies.pdus(rules))
    event = parse_event(pdu, rules)
    assert event.pdu is pdu
    assert event.room_id


def test_the_room_id_of_a_version_12_room_is_its_creates_hash() -> None:
    create = build_create()
    assert "room_id" not in create.pdu
    assert create.room_id == "!" + create.event_id[1:]
    assert b"room_id" not in signing_bytes(create.pdu, V12)
    assert parse_event(create.pdu, V12).room_id == create.room_id
    assert build(room_id=create.room_id).room_id == create.room_id


def test_a_version_12_create_with_a_room_id_is_no_event() -> None:
    for room_id in (ROOM, None, "", 1):
        with pytest.raises(InvalidEvent, match="room_id"):
            parse_event({**build_create().pdu, "room_id": room_id}, V12)
    with pytest.raises(InvalidEvent, match="room_id"):
        build_create(room_id=ROOM)


@pytest.mark.parametrize("rules", [V10, V11], ids=repr)
def test_earlier_creates_need_a_room_id(rules: RoomRules) -> None:
    assert build_create(rules).room_id == "!room:a.example"
    with pytest.raises(InvalidEvent, match="room_id"):
        build_create(rules, room_id=None)


def test_the_event_id_is_the_hash_of_what_redaction_keeps() -> None:
    event = build()
    assert parse_event(redact(event.pdu, V12), V12).event_id == event.event_id
    unimportant: list[dict[str, Any]] = [{"unsigned": {"age": 1}}, {"signatures": {}}, {"content": {}}]
    for changes in unimportant:
        assert parse_event({**event.pdu, **changes}, V12).event_id == event.event_id
    for key, value in (("depth", 8), ("hashes", {"sha256": "x"}), ("sender", "@bob:b")):
        assert parse_event({**event.pdu, key: value}, V12).event_id != event.event_id


def test_an_event_id_for_a_golden_event() -> None:
    # Computed with signedjson, canonicaljson and hashlib by hand from the same fields.
    assert build().event_id == GOLDEN_EVENT_ID


def test_a_known_id_is_taken_as_it_is() -> None:
    assert parse_event(build().pdu, V12, "$known").event_id == "$known"
    assert event_of(build_create().pdu, V12, "$known").room_id == "!known"


@pytest.mark.parametrize(("rules", "in_content"), [(V10, False), (V11, True), (V12, True)], ids=repr)
def test_redactions_name_their_target_where_the_version_keeps_it(rules: RoomRules, in_content: bool) -> None:
    content = {"reason": "spam"}
    event = build(rules, type="m.room.redaction", content=content, redacts="$target")
    assert event.redacts == parse_event(event.pdu, rules).redacts == "$target"
    assert (event.pdu.get("redacts"), event.content.get("redacts")) == (
        (None, "$target") if in_content else ("$target", None)
    )
    assert content == {"reason": "spam"}
    elsewhere = {"redacts": "$target"}
    moved = build(rules, type="m.room.redaction", content={} if in_content else elsewhere)
    assert parse_event({**moved.pdu, **(elsewhere if in_content else {})}, rules).redacts is None
    assert build(rules, type="m.room.message", content=elsewhere).redacts is None
    assert parse_event({**event.pdu, "redacts": 1, "content": {"redacts": 1}}, rules).redacts is None


def each(key: str, *values: Any) -> list[dict[str, Any]]:
    return [{key: value} for value in values]


BAD: list[dict[str, Any]] = [
    *each("type", None, 1, "a" * 256, "é" * 128),
    *each("sender", None, "", "alice", "@alice", "!a:b", "@" + "a" * 254 + ":b", "@a\0:b"),
    *each("state_key", None, 1, "a" * 256, "é" * 128),
    *each("content", None, [], "x"),
    *each("room_id", None, 1, "", "!", "#a:b", "!" + "a" * 255),
    *each("depth", None, "1", True, -1, 2**63, 1.0),
    *each("origin_server_ts", None, "1", True, 1.5),
    *each("prev_events", None, {}, [1], ["x"], [["$a"]], [["$a", 1]], [["x", {}]], ["$" + "a" * 255]),
    *each("auth_events", None, {}, [None]),
    *each("hashes", None, {}, [], {"sha256": 1}),
    *each("signatures", None, [], {"a": None}, {"a": "x"}),
    {"content": {"a": "\ud800"}},
]
# From version 6 on "Servers MUST strictly enforce the JSON format"; before, they "MUST NOT".
BAD_WHERE_JSON_IS_STRICT: list[dict[str, Any]] = [
    *each("depth", 2**53, 2**63 - 1),
    *each("origin_server_ts", 2**53, -(2**80)),
    *({"content": {"a": value}} for value in (1.0, 2**53, -(2**53), {"b": [0.1]})),
    *({key: 1.5} for key in ("unsigned", "other")),
]
NAMED = "$a:a.example"


@ALL
@pytest.mark.parametrize("changes", BAD, ids=lambda changes: str(changes)[:40])
def test_what_breaks_the_format_is_no_event(changes: dict[str, Any], rules: RoomRules) -> None:
    with pytest.raises(InvalidEvent):
        parse_event({**message_of(rules), **changes}, rules)


@ALL
@pytest.mark.parametrize("changes", BAD_WHERE_JSON_IS_STRICT, ids=lambda changes: str(changes)[:40])
def test_json_is_strict_from_version_6_on(changes: dict[str, Any], rules: RoomRules) -> None:
    pdu = {**message_of(rules), **changes}
    if int(rules.version) < 6:
        assert parse_event(pdu, rules).pdu == pdu
        assert parse_event(loads(canonical_bytes(pdu)), rules).event_id == parse_event(pdu, rules).event_id
    else:
        with pytest.raises(InvalidEvent):
            parse_event(pdu, rules)


@ALL
def test_who_chooses_the_event_id(rules: RoomRules) -> None:
    event = build(rules)
    if int(rules.version) < 3:
        assert event.pdu["event_id"] == event.event_id
        assert event.event_id.endswith(":a.example")
        assert event.event_id != build(rules, depth=8).event_id
        assert parse_event({**event.pdu, "event_id": NAMED}, rules).event_id == NAMED
        for bad in (None, 1, "", "a:a.example", "$" + "a" * 255):
            with pytest.raises(InvalidEvent, match="event_id"):
                parse_event({**event.pdu, "event_id": bad}, rules)
    else:
        alphabet = set("+/") if rules.version == "3" else set("-_")
        assert not {*"+/-_"} & set("".join(build(rules, depth=n).event_id for n in range(50))) - alphabet
        with pytest.raises(InvalidEvent, match="event_id"):
            parse_event({**event.pdu, "event_id": event.event_id}, rules)


@ALL
def test_how_other_events_are_named(rules: RoomRules) -> None:
    target = build(rules)
    hashed = {target.event_id: reference_hash(target.pdu, rules)}
    event = build(rules, prev_events=[target.event_id], auth_events=[target.event_id], reference_hashes=hashed)
    pairs, ids = [[target.event_id, {"sha256": hashed[target.event_id]}]], [target.event_id]
    written, others = (pairs, ids) if int(rules.version) < 3 else (ids, pairs)
    assert event.pdu["prev_events"] == event.pdu["auth_events"] == written
    assert event.prev_events == event.auth_events == (target.event_id,)
    for name in ("prev_events", "auth_events"):
        with pytest.raises(InvalidEvent, match=name):
            parse_event({**event.pdu, name: others}, rules)


@ALL
@pytest.mark.parametrize(("name", "most"), [("prev_events", 20), ("auth_events", 10)])
def test_how_many_events_may_be_named(rules: RoomRules, name: str, most: int) -> None:
    assert len(getattr(build(rules, **{name: [NAMED] * most}), name)) == most
    with pytest.raises(InvalidEvent, match=name):
        build(rules, **{name: [NAMED] * (most + 1)})
    reference = build(rules, **{name: [NAMED]}).pdu[name]
    with pytest.raises(InvalidEvent, match=name):
        parse_event({**build(rules).pdu, name: reference * (most + 1)}, rules)


@ALL
@pytest.mark.parametrize("missing", sorted(set(build().pdu) - {"unsigned"}))
def test_required_keys(missing: str, rules: RoomRules) -> None:
    pdu = message_of(rules)
    with pytest.raises(InvalidEvent):
        parse_event({key: value for key, value in pdu.items() if key != missing}, rules)


@ALL
@pytest.mark.parametrize(
    "changes",
    [
        *({"type": "a" * 255}, {"type": ""}, {"type": "é" * 127 + "a"}, {"state_key": "é" * 127 + "a"}, {"depth": 0}),
        *({"depth": 2**53 - 1}, {"origin_server_ts": -5}, {"origin_server_ts": 0}),
        *({"prev_events": []}, {"sender": "@:b"}, {"content": {"a": None}}),
        *({"hashes": {"sha256": "", "md5": 1}}, {"signatures": {"a": {"b": 1}}}, {"other": {}}, {"redacts": 1}),
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_what_the_format_allows(changes: dict[str, Any], rules: RoomRules) -> None:
    parse_event({**message_of(rules), **changes}, rules)


@pytest.mark.parametrize("pdu", [None, [], "x", 1])
def test_an_event_is_an_object(pdu: Any) -> None:
    with pytest.raises(InvalidEvent):
        parse_event(pdu, V12)


def test_an_event_is_at_most_65536_bytes_as_canonical_json() -> None:
    room_left = EVENT_BYTES_MAX - len(canonical_bytes(build(content={"body": ""}).pdu))
    most = build(content={"body": "a" * room_left})
    assert len(canonical_bytes(most.pdu)) == EVENT_BYTES_MAX
    parse_event(most.pdu, V12)
    with pytest.raises(InvalidEvent, match="65536"):
        build(content={"body": "a" * (room_left + 1)})
    with pytest.raises(InvalidEvent, match="65536"):
        parse_event({**most.pdu, "content": {"body": "a" * (room_left + 1)}}, V12)


def test_what_nobody_vouches_for_can_be_left_out_before_it_counts() -> None:
    pdu = build().pdu
    padded = {**pdu, "unsigned": {"padding": "a" * EVENT_BYTES_MAX}}
    with pytest.raises(InvalidEvent, match="65536"):
        parse_event(padded, V12)
    assert without_unsigned(padded) == pdu
    assert without_unsigned(pdu) is pdu


@pytest.mark.parametrize(
    "changes",
    [
        *({"content": {"a": value}} for value in (1.5, 2**53, "\ud800")),
        *({"depth": 2**53}, {"type": "a" * 256}, {"state_key": "é" * 128}),
    ],
)
def test_we_build_nothing_that_others_drop(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        build(**changes)


def test_only_state_events_have_a_key() -> None:
    assert build(state_key="").is_state
    assert not build().is_state
    with pytest.raises(ValueError, match="not a state event"):
        _ = build().key


def test_an_event_and_its_redacted_form_differ_under_one_id() -> None:
    event = build()
    redacted = parse_event(redact(event.pdu, V12), V12)
    assert event != redacted
    assert hash(event) == hash(redacted)
    assert event != "event"


def test_rules_are_one_value_a_version() -> None:
    assert DEFAULT == "12"
    for version, rules in ROOM_VERSIONS.items():
        assert rules.version == version
        assert copy.deepcopy(rules) is pickle.loads(pickle.dumps(rules)) is rules  # noqa: S301
    assert pickle.loads(pickle.dumps(build())) == build()  # noqa: S301
