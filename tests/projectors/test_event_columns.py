"""What rows say of a message, taken from the record's texts, is what they say of any event."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from annals.matrix.canonical_json import canonical_bytes, checked_bytes
from annals.matrix.format import is_create
from annals.matrix.record_parts import parts
from annals.matrix.room_versions import ROOM_VERSIONS, RoomRules
from annals.projectors.rooms.event_columns import columns_of, columns_of_message
from annals.projectors.rooms.fold import event_in
from annals.schemas.facts.envelope import Envelope, Sealed
from annals.schemas.facts.rooms import PduCreated, PduFact, PduReceived
from tests.support import pdu_strategies

ID = "$" + "i" * 43
STRICT = [version for version, rules in ROOM_VERSIONS.items() if rules.strict_canonical_json]
ENVELOPE = Envelope(1, "api", "1")
MESSAGE: dict[str, Any] = {
    "type": "m.room.message",
    "room_id": "!r:test",
    "sender": '@"u\\:test',
    "content": {"body": 'a\n"b"\\ é \x00\x7f\u2028', "m.mentions": {}},
    "prev_events": ["$" + "p" * 43],
    "auth_events": [],
    "depth": 9,
    "origin_server_ts": 1_700_000_000_000,
    "hashes": {"sha256": "x"},
    "signatures": {"test": {"ed25519:1": "s"}},
}


def _fact(pdu: dict[str, Any], version: str) -> PduCreated:
    skeleton, body = parts(pdu, ROOM_VERSIONS[version])
    event_id = pdu.get("event_id", ID)
    return PduCreated(ENVELOPE, "!r:test", event_id, version, canonical_bytes(skeleton), canonical_bytes(body))


def _same(fact: PduFact) -> None:
    found = columns_of_message(fact)
    assert found == columns_of(event_in(fact)), "it is a message as messages are"


@given(st.data(), pdu_strategies.rules, st.booleans())
def test_of_any_event_nothing_is_said_or_the_same(data: st.DataObject, rules: RoomRules, bare: bool) -> None:
    pdu = data.draw(pdu_strategies.pdus(rules))
    assume(not is_create(pdu))
    if bare:
        pdu = {key: value for key, value in pdu.items() if key in MESSAGE or key == "event_id"}
    fact = _fact(pdu, rules.version)
    found = columns_of_message(fact)
    assert found is None or found == columns_of(event_in(fact))


@pytest.mark.parametrize("version", STRICT)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"type": 'org."example"'},
        {"content": {}},
        {"origin": "test"},
        {"hashes": {"sha256": "x", "origin_server_ts": "1"}, "prev_events": [ID, ID], "auth_events": [ID]},
        {"content": {"m.relates_to": {"event_id": ID}}},
        {"content": {"m.relates_to": {"event_id": 1}}},
        {"content": {"m.relates_to": []}},
        {"content": {"body": '"m.relates_to"'}},
    ],
    ids=repr,
)
def test_messages_are_not_read_and_written_again(version: str, changes: dict[str, Any]) -> None:
    if "origin" in changes and "origin" not in parts(MESSAGE | changes, ROOM_VERSIONS[version])[0]:
        return  # then it stands in the body
    _same(_fact(MESSAGE | changes, version))


@pytest.mark.parametrize(
    "changes",
    [{"state_key": ""}, {"type": "m.room.member"}, {"type": "m.room.redaction"}, {"unsigned": {}}, {"depth": "9"}],
    ids=repr,
)
def test_what_is_no_ordinary_message(changes: dict[str, Any]) -> None:
    assert columns_of_message(_fact(MESSAGE | changes, "12")) is None


def test_numbers_of_old_room_versions_are_read_as_they_were_written() -> None:
    assert columns_of_message(_fact(MESSAGE | {"content": {"n": 1.5}}, "5")) is None


def test_a_message_of_which_only_the_skeleton_counts() -> None:
    fact = _fact(MESSAGE, "12")
    assert columns_of_message(replace(fact, body=Sealed("key", b"nonce", b"data"))) is None
    failed = PduReceived(
        ENVELOPE, "!r:test", ID, "12", fact.skeleton, fact.body, "test", "transaction 1", (), content_hash_ok=False
    )
    assert columns_of_message(failed) is None
    assert columns_of_message(replace(failed, content_hash_ok=True)) is not None


def test_a_record_that_is_torn_is_left_to_who_says_what_is_wrong() -> None:
    fact = _fact(MESSAGE, "12")
    assert columns_of_message(replace(fact, skeleton=fact.skeleton[:-1])) is None
    assert columns_of_message(replace(fact, skeleton=checked_bytes([1]))) is None
