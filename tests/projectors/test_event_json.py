"""Two JSON texts for one event: what clients get, and the rest; together the exact PDU."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.events import event_of
from annals.matrix.format import is_create
from annals.matrix.room_versions import ROOM_VERSIONS, EventIdFormat, RoomRules
from annals.projectors.rooms.event_json import join_event, split_event
from tests.support import pdu_strategies

_CLIENT_KEYS = {"event_id", "room_id", "type", "sender", "content", "origin_server_ts", "state_key", "redacts"}


@given(st.data(), pdu_strategies.rules)
def test_the_two_texts_give_back_the_exact_event(data: st.DataObject, rules: RoomRules) -> None:
    pdu = data.draw(pdu_strategies.pdus(rules))
    if rules.room_id_is_create_hash and is_create(pdu):
        pdu.pop("room_id", None)
    # In room versions 1-2 the id is part of the PDU; later a key of that name is a stranger's.
    event_id = pdu["event_id"] if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER else "$id"
    event = event_of(pdu, rules, event_id)
    client, federation = split_event(event)
    assert canonical_bytes(join_event(client, federation, rules)) == canonical_bytes(pdu)
    shown = orjson.loads(client)
    assert shown.keys() <= _CLIENT_KEYS
    assert shown["event_id"] == event_id
    assert shown["room_id"] == event.room_id
    spliced = orjson.loads(client[:-1] + ',"unsigned":{"age":1}}')
    assert spliced == {**shown, "unsigned": {"age": 1}}


def _redaction(version: str, **keys: object) -> dict[str, object]:
    pdu = {
        "type": "m.room.redaction",
        "room_id": "!r:test",
        "sender": "@u:test",
        "content": {},
        "prev_events": [],
        "auth_events": [],
        "depth": 1,
        "origin_server_ts": 1,
        "hashes": {"sha256": "x"},
    }
    return {**pdu, **keys}


def test_clients_find_the_target_of_a_redaction_in_both_places() -> None:
    old = event_of(_redaction("10", redacts="$t"), ROOM_VERSIONS["10"], "$id")
    new = event_of(_redaction("11", content={"redacts": "$t"}, redacts="$lie"), ROOM_VERSIONS["11"], "$id")
    for event in (old, new):
        client, federation = split_event(event)
        shown = orjson.loads(client)
        assert shown["redacts"] == shown["content"]["redacts"] == "$t"
        assert join_event(client, federation, event.rules) == event.pdu
