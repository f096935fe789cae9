"""The facts of what came: exact events, and quarantine that always fits into a record."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from annals.ingest.keyring import KeyNeed
from annals.ingest.pdu_facts import ORIGINAL_BYTES_MAX, pdu_fetched, pdu_quarantined, pdu_received
from annals.ingest.verification import (
    Candidate,
    KeyUnavailable,
    Outcome,
    Prepared,
    Quarantined,
    Reason,
    Verified,
    judge,
    prepare,
)
from annals.matrix.building import build_event
from annals.matrix.canonical_json import loads
from annals.matrix.events import Event, event_of, merge
from annals.matrix.redaction import redact
from annals.matrix.room_versions import ROOM_VERSIONS, RoomRules
from annals.matrix.server_keys import KnownKey
from annals.matrix.signing import SigningKey
from annals.schemas.codec import decode
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.quarantine import InputQuarantined
from annals.schemas.records import record_of
from tests.support.pdu_strategies import any_values

RECORD_BYTES_MAX = 64 << 10
ENVELOPE = Envelope(5, "api", "1")
KEY = SigningKey("ed25519:1", b"\1" * 32)
MODERN = [rules for version, rules in ROOM_VERSIONS.items() if int(version) >= 3]


def built(rules: RoomRules, **content: Any) -> Event:
    return build_event(
        rules,
        room_id="!" + "r" * 43,
        sender="@a:a.example",
        type="m.room.member",
        content={"membership": "join", "displayname": "a", **content},
        state_key="@a:a.example",
        prev_events=[],
        auth_events=[],
        depth=1,
        origin_server_ts=1000,
        server_name="a.example",
        key=KEY,
    )


def verified(pdu: dict[str, Any], rules: RoomRules) -> Verified:
    prepared = prepare(Candidate(pdu, rules))
    assert isinstance(prepared, Prepared)
    found: Outcome = judge(prepared, lambda _: KnownKey(KEY.verify_key, 2000, True, True, 0))
    assert isinstance(found, Verified)
    return found


@pytest.mark.parametrize("rules", MODERN, ids=repr)
@pytest.mark.parametrize("whole", [True, False])
def test_a_fact_gives_back_the_event_that_is_judged(rules: RoomRules, whole: bool) -> None:
    event = built(rules)
    pdu = event.pdu if whole else {**event.pdu, "content": {**event.content, "displayname": "other"}}
    found = verified({**pdu, "unsigned": {"age": 1}}, rules)
    received = pdu_received(found, ENVELOPE, "a.example", "txn")
    fetched = pdu_fetched(found, ENVELOPE, "b.example", "fetch", "backfill")
    for fact in (received, fetched):
        again = decode(record_of(fact).value or b"")
        assert again == fact
        assert isinstance(fact.body, bytes)
        exact = merge(loads(fact.skeleton), loads(fact.body))
        assert exact == (event.pdu if whole else redact(event.pdu, rules))
        assert event_of(exact, rules, fact.event_id) == found.event
        assert (fact.event_id, fact.room_version, fact.content_hash_ok) == (event.event_id, rules.version, whole)
    assert (record_of(received).topic, record_of(received).partition_key) == ("rooms", event.room_id)


@given(any_values)
def test_whatever_came_fits_into_the_quarantine(value: Any) -> None:
    for pdu in (value, {"room_id": value, "content": value}):
        for found in (
            Quarantined(Reason.MALFORMED, "why", None),
            KeyUnavailable("$x", (KeyNeed("a.example", "ed25519:1"),), "d" * 5000, 9),
        ):
            fact = pdu_quarantined(found, pdu, None, ENVELOPE, "a.example", "txn" * 500)
            record = record_of(fact)
            assert (record.topic, record.partition_key) == ("quarantine", "a.example")
            assert record.value is not None
            assert decode(record.value) == fact
            assert fact.retry_at_ms == (9 if isinstance(found, KeyUnavailable) else None)


def test_what_is_too_large_is_cut_and_its_size_told() -> None:
    pdu = {"content": {"body": "x" * 500_000}, "room_id": "!" + "é" * 254}
    fact = pdu_quarantined(Quarantined(Reason.TOO_LARGE, "é" * 9000, None), pdu, "10", ENVELOPE, "a" * 255, "v" * 999)
    assert isinstance(fact, InputQuarantined)
    assert isinstance(fact.original, bytes)
    assert (len(fact.original), fact.original_bytes > 500_000) == (ORIGINAL_BYTES_MAX, True)
    assert len(record_of(fact).value or b"") <= RECORD_BYTES_MAX
