"""PDUs, states and auth chains as other servers are given them, beside what the oracle of woven rooms says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from annals.matrix.canonical_json import canonical_bytes, loads
from annals.matrix.redaction import redact
from annals.queries.federation.pdus import auth_chain_ids, current_state_ids, pdus_by_id, pdus_of, state_ids_before
from annals.queries.federation.texts import pdu_texts
from tests.support.room_weaver import CAROL, Weaver, plain_room, woven
from tests.support.rooms import received
from tests.support.statements import count_statements
from tests.support.sync_world import World

T = TypeVar("T")


def _read(world: World, query: Callable[..., T], *args: Any) -> T:
    return world.database.read_now(lambda snapshot: query(snapshot, *args))


def _logged(world: World, weaver: Weaver) -> Weaver:
    world.put(*map(received, weaver.events))
    return weaver


def _chain(weaver: Weaver, event_ids: list[str]) -> set[str]:
    found: set[str] = set()
    todo = list(event_ids)
    implied = weaver.rules.room_id_is_create_hash
    while todo:
        event = weaver.oracle.events[todo.pop()]
        cited = [*event.auth_events, *(["$" + event.room_id[1:]] if implied and event.type != "m.room.create" else [])]
        todo += [event_id for event_id in cited if event_id not in found]
        found.update(cited)
    return found


@pytest.mark.parametrize("version", ["10", "12"])
def test_woven_rooms_are_read_as_they_are(world: World, version: str) -> None:
    weaver = _logged(world, woven(3, version, 60))
    oracle, room_id = weaver.oracle, weaver.room_id
    rows = world.database.read_now(
        lambda s: dict(s.rows("SELECT event_id, redacted_by FROM events WHERE room_id = %s", (room_id,)))
    )
    assert any(rows.values()), "the room has a redaction that took effect"
    found = _read(world, pdus_by_id, room_id, list(rows))
    assert found == {
        event.event_id: redact(event.pdu, event.rules) if rows[event.event_id] else event.pdu for event in weaver.events
    }
    texts = _read(world, lambda *named: list(pdu_texts(*named)), room_id, list(rows))
    assert sorted(map(canonical_bytes, map(loads, texts))) == sorted(map(canonical_bytes, found.values()))
    assert _read(world, current_state_ids, room_id) == oracle.current
    for event in weaver.events:
        event_id = event.event_id
        before = _read(world, state_ids_before, room_id, event_id)
        assert before == oracle.before[event_id]
        chain = _read(world, auth_chain_ids, room_id, [event_id])
        assert chain == _chain(weaver, [event_id]), event
    every = [event.event_id for event in weaver.events]
    with count_statements(world.database) as sent:
        together = _read(world, auth_chain_ids, room_id, every)
    assert together == _chain(weaver, every)
    assert len(sent.queries) == 2


def test_what_is_not_in_the_room_is_not_given(world: World) -> None:
    weaver, other = _logged(world, plain_room("12")), _logged(world, woven(1, "10", 3))
    foreign, never = other.events[-1].event_id, "$" + "A" * 43
    own = weaver.events[-1].event_id
    hidden = weaver.add(("m.room.message", CAROL, None, {}))
    parked = weaver.build(("m.room.message", CAROL, None, {}), [hidden.event_id])
    world.put(received(parked))
    asked = [never, own, foreign, parked.event_id]
    assert _read(world, pdus_of, weaver.room_id, asked) == [weaver.oracle.events[own].pdu]
    for event_id in (never, foreign, parked.event_id):
        assert _read(world, state_ids_before, weaver.room_id, event_id) is None
        assert _read(world, auth_chain_ids, weaver.room_id, [event_id]) == set()
