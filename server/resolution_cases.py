"""Cases of `annals check-resolution`: a room and states of it as JSON, to what the rules make of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annals.matrix.canonical_json import canonical_bytes, loads
from annals.matrix.errors import MatrixError
from annals.matrix.events import Event, StateKey, event_of
from annals.matrix.format import is_create
from annals.matrix.room_versions import ROOM_VERSIONS, EventIdFormat, RoomRules
from annals.matrix.whole_room import IncompleteRoom, judge_room

# What neither rules nor resolution read may be left out of a case.
_UNREAD: Mapping[str, Any] = {"hashes": {}, "signatures": {}}


class MalformedCase(ValueError):
    """The line does not say what a case has to say."""


def answer_line(line: bytes) -> tuple[bytes, bool]:
    """The line that answers a line, and whether it says that something is wrong."""
    try:
        case = loads(line)
        answer, is_error = _answer(case), False
    except (MatrixError, MalformedCase, IncompleteRoom) as error:
        answer, is_error = {"error": str(error)}, True
    return canonical_bytes(answer), is_error


def _answer(case: Any) -> dict[str, Any]:
    rules, events, state_sets = _read(case)
    room = judge_room(rules, events.values())
    resolved = room.resolve(state_sets)
    return {
        "resolved": sorted([event_type, key, event_id] for (event_type, key), event_id in resolved.items()),
        "rejected": sorted(room.rejections),
    }


def _read(case: Any) -> tuple[RoomRules, dict[str, Event], list[dict[StateKey, str]]]:
    _demand(isinstance(case, dict), "a case is an object")
    version = case.get("room_version")
    rules = ROOM_VERSIONS.get(version) if isinstance(version, str) else None
    if rules is None:
        raise MalformedCase(f"unknown room_version: {version!r}")
    _demand(isinstance(case.get("events"), list), "events is not an array")
    _demand(isinstance(case.get("state_sets"), list), "state_sets is not an array")
    events: dict[str, Event] = {}
    for pdu in case["events"]:
        event = _event(pdu, rules)
        _demand(event.event_id not in events, f"{event.event_id} is there twice")
        events[event.event_id] = event
    return rules, events, [_state_set(entries, events) for entries in case["state_sets"]]


def _event(given: Any, rules: RoomRules) -> Event:
    """The event under the id given for it; looked at are the keys that rules and resolution read."""
    _demand(isinstance(given, dict), "an event is an object")
    event_id = given.get("event_id")
    if not isinstance(event_id, str):
        raise MalformedCase("an event has no event_id")
    pdu = {**_UNREAD, **given}
    if rules.event_id_format is not EventIdFormat.CHOSEN_BY_SENDER:
        del pdu["event_id"]
    _check_fields(event_id, pdu, rules)
    return event_of(pdu, rules, event_id)


def _check_fields(event_id: str, pdu: Mapping[str, Any], rules: RoomRules) -> None:
    expected: dict[str, type] = {"type": str, "sender": str, "content": dict, "depth": int, "origin_server_ts": int}
    if not (rules.room_id_is_create_hash and is_create(dict(pdu))):
        expected["room_id"] = str
    for name, kind in expected.items():
        _demand(type(pdu.get(name)) is kind, f"{event_id}: {name} is missing or of the wrong type")
    _demand(isinstance(pdu.get("state_key", ""), str), f"{event_id}: state_key is not a string")
    for name in ("prev_events", "auth_events"):
        references = pdu.get(name)
        if not isinstance(references, list):
            raise MalformedCase(f"{event_id}: {name} is missing or not an array")
        if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
            pairs = all(isinstance(reference, list) and len(reference) == 2 for reference in references)
            _demand(pairs, f"{event_id}: {name} has an entry that is not an id and its hashes")
            references = [reference[0] for reference in references]
        _demand(all(isinstance(other, str) for other in references), f"{event_id}: {name} has an entry that is no id")


def _state_set(entries: Any, events: Mapping[str, Event]) -> dict[StateKey, str]:
    _demand(isinstance(entries, list), "a state set is not an array")
    state: dict[StateKey, str] = {}
    for entry in entries:
        if not (isinstance(entry, list) and len(entry) == 3 and all(isinstance(part, str) for part in entry)):
            raise MalformedCase("an entry of a state set is not [type, state_key, event_id]")
        event_type, state_key, event_id = entry
        event = events.get(event_id)
        if event is None or (event.type, event.state_key) != (event_type, state_key):
            raise MalformedCase(f"{event_id} is no event of ({event_type}, {state_key})")
        _demand((event_type, state_key) not in state, f"({event_type}, {state_key}) stands twice in a state set")
        state[event_type, state_key] = event_id
    return state


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise MalformedCase(otherwise)
