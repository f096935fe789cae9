"""The rows of one step, column by column: what the fold gives as values stands where its name is."""

from __future__ import annotations

from typing import Any

from annals.database.rows import Kind, Rows
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.record_parts import parts
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms.chains import InRoom, place
from annals.projectors.rooms.fold import StepFacts, fold_step, local_to
from annals.projectors.work import Answers
from annals.rooms.auth_chains import Citing, Place
from annals.rooms.needs import Loaded, Needs
from annals.schemas.facts.decisions import CurrentChange, StateEntry, StateMade, Verdict
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.rooms import PduCreated

ROOM, BEFORE, EVENT = "!r:test", "$" + "b" * 43, "$" + "e" * 43
AUTH, PREV = "$" + "a" * 43, "$" + "p" * 43
OF = {"partition": 3, "source": 5, "position": 5 << 20}
MEMBER, BOB = "m.room.member", "@bob:test"
PDU: dict[str, Any] = {
    "type": MEMBER,
    "state_key": BOB,
    "room_id": ROOM,
    "sender": "@ann:test",
    "content": {"membership": "invite", "reason": "r"},
    "prev_events": [PREV],
    "auth_events": [AUTH],
    "depth": 9,
    "origin_server_ts": 1_700_000_000_000,
    "hashes": {"sha256": "x"},
    "signatures": {"test": {"ed25519:1": "s"}},
}
VERDICT: dict[str, Any] = {
    "room_id": ROOM,
    "position": 5 << 20,
    "source": 5,
    "epoch": 1,
    "decide_version": 1,
    "last_of_step": True,
    "event_id": EVENT,
    "verdict": "accepted",
    "state_before": 1,
    "state_after": 2,
    "states_made": (StateMade(2, 1, 7, (StateEntry(MEMBER, BOB, EVENT),), b"sum"),),
    "extremities_added": (EVENT,),
    "extremities_removed": (PREV,),
    "current_delta": (CurrentChange(MEMBER, BOB, EVENT, BEFORE, "invite"),),
    "replaces": BEFORE,
}


def _rows(pdu: dict[str, Any], verdict: dict[str, Any]) -> dict[str, list[tuple[Kind, dict[str, Any]]]]:
    skeleton, body = (canonical_bytes(part) for part in parts(pdu, ROOM_VERSIONS["11"]))
    envelope = Envelope(1, "api", "1", idempotency_key="key")
    fact = PduCreated(envelope, ROOM, EVENT, "11", skeleton, body)
    found: dict[str, list[tuple[Kind, dict[str, Any]]]] = {}
    rows = fold_step(StepFacts(5, fact, {}), [Verdict(**verdict)], 3, local_to("elsewhere"))
    for table, kind, _, row in rows.changes():
        found.setdefault(table.name, []).append((kind, dict(row)))
    return found


def _event_row(**others: Any) -> dict[str, Any]:
    row = dict.fromkeys(("rule", "reason", "state_key", "membership", "replaces", "missing"))
    row |= dict.fromkeys(("redacts", "redacted_by", "relates_to"))
    row |= dict.fromkeys(("outlier", "backfilled", "provisional"), False)
    row |= {"room_id": ROOM, "event_id": EVENT, "room_version": "11", "verdict": "accepted", "idempotency_key": "key"}
    row |= {key: PDU[key] for key in ("sender", "depth", "origin_server_ts")}
    return row | {"prev_events": (PREV,), "auth_events": (AUTH,), "state_before": 1, "state_after": 2} | OF | others


def _without_texts(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("client_json", "federation_json")}


def test_a_state_event() -> None:
    found = _rows(PDU, VERDICT)
    ((kind, event),) = found.pop("events")
    assert kind is Kind.INSERT
    assert _without_texts(event) == _event_row(type=MEMBER, state_key=BOB, membership="invite", replaces=BEFORE)
    key = {"room_id": ROOM, "type": MEMBER, "state_key": BOB}
    change = {**key, "event_id": EVENT, "membership": "invite", **OF}
    state = {"room_id": ROOM, "state_id": 2}
    member = {"user_id": BOB, "sender": "@ann:test", "membership": "invite"}
    assert found == {
        "room_memberships": [(Kind.INSERT, {"room_id": ROOM, "event_id": EVENT, **member, **OF})],
        "states": [(Kind.INSERT, {**state, "base_id": 1, "depth": 7, "element_sum": b"sum", **OF})],
        "state_deltas": [(Kind.INSERT, {**state, "type": MEMBER, "state_key": BOB, "event_id": EVENT})],
        "forward_extremities": [(Kind.DELETE, {}), (Kind.INSERT, {"room_id": ROOM, "event_id": EVENT, **OF})],
        "current_state": [(Kind.UPSERT, change)],
        "current_state_deltas": [(Kind.INSERT, {**change, "ordinal": 0, "previous_event_id": BEFORE})],
    }


def test_a_message() -> None:
    pdu = {key: value for key, value in PDU.items() if key != "state_key"} | {"type": "m.room.message"}
    bare = {key: value for key, value in VERDICT.items() if key not in ("states_made", "current_delta", "replaces")}
    judged = {"rule": "rule", "reason": "reason", "provisional": True}
    found = _rows(pdu, bare | judged | {"missing": (PREV,)})
    ((_, event),) = found["events"]
    assert _without_texts(event) == _event_row(type="m.room.message", missing=(PREV,), **judged)
    assert set(found) == {"events", "forward_extremities"}
    marked = (
        _rows(pdu, bare | {"outlier": True})["events"][0][1],
        _rows(pdu, bare | {"backfilled": True})["events"][0][1],
    )
    assert [(row["outlier"], row["backfilled"]) for row in marked] == [(True, False), (False, True)]


def test_what_left_the_current_state() -> None:
    gone = CurrentChange(MEMBER, BOB, None, BEFORE)
    new = CurrentChange("m.room.topic", "", EVENT, None)
    found = _rows(PDU, VERDICT | {"current_delta": (gone, new)})
    (removed, _), (added, row) = found["current_state"]
    assert (removed, added, row["event_id"], row["membership"]) == (Kind.DELETE, Kind.INSERT, EVENT, None)
    assert [(row["ordinal"], row["event_id"]) for _, row in found["current_state_deltas"]] == [(0, None), (1, EVENT)]


def test_what_an_event_names() -> None:
    pdu = {key: value for key, value in PDU.items() if key != "state_key"}
    bare = {key: value for key, value in VERDICT.items() if key not in ("states_made", "current_delta", "replaces")}
    named = {"redacts": PREV, "relates_to": None, "redacted_by": None}
    row = _rows(pdu | {"type": "m.room.redaction", "content": {"redacts": PREV}}, bare)["events"][0][1]
    assert {name: row[name] for name in named} == named
    named = {"redacts": None, "relates_to": PREV, "redacted_by": None}
    row = _rows(pdu | {"type": "m.reaction", "content": {"m.relates_to": {"event_id": PREV}}}, bare)["events"][0][1]
    assert {name: row[name] for name in named} == named


def test_a_place_and_what_it_links_to() -> None:
    power = Citing(AUTH, ("m.room.power_levels", ""), (), 1 << 20, Place(1 << 20, 4))
    before = Citing(BEFORE, (MEMBER, BOB), (), 2 << 20, Place(2 << 20, 6))
    work = place([InRoom(ROOM, Citing(EVENT, (MEMBER, BOB), (AUTH, BEFORE), 5 << 20), is_new=True)])
    assert next(work).rooms == Needs(cited=frozenset({(ROOM, AUTH), (ROOM, BEFORE)}))
    known = Loaded(cited={(ROOM, event.event_id): event for event in (power, before)})
    try:
        work.send(Answers({ROOM: known}))
    except StopIteration as stop:
        rows: Rows = stop.value
    where = {"room_id": ROOM, "chain_id": 2 << 20, "sequence": 7}
    assert [(table.name, dict(row)) for table, _, _, row in rows.changes()] == [
        ("auth_chains", {**where, "event_id": EVENT, "type": MEMBER, "state_key": BOB}),
        ("auth_chain_links", {**where, "to_chain_id": 1 << 20, "to_sequence": 4}),
    ]
