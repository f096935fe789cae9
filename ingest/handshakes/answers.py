"""The answer to send_join: a whole room, read, and checked as a whole before anything of it is on the log. Pure.

    read_join_answer   bytes ─▶ PDUs, each once
    plan_room          PDUs, of good format ─▶ the room's state and auth chain, in an order in which every event stands
                       behind those that it cites
    Believed           what verification said of each, in that order ─▶ what can be used

What a server cannot have taken in good faith (an event of another room, two events for one key, a citation that leads
nowhere, a forged event by which others are judged) makes the whole answer worthless. What only cannot be verified here,
as its server's keys are not to be had, is left out, with all that cites it; so is a badly signed event that decides
nothing, a name or a topic: old rooms have some, and are not to be closed to us for ever by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import orjson

from annals.ingest.handshakes.errors import AnswerRefused
from annals.ingest.handshakes.templates import Asked
from annals.ingest.verification import Outcome, Prepared, Quarantined, Reason, Verified
from annals.matrix.auth_events import auth_types_for
from annals.matrix.canonical_json import canonical_bytes, loads
from annals.matrix.errors import MatrixError
from annals.matrix.events import Event, StateKey
from annals.matrix.format import without_unsigned
from annals.matrix.room_versions import RoomRules

CREATE: StateKey = ("m.room.create", "")
_LEFT_OUT = frozenset((Reason.KEY_NOT_VALID, Reason.KEY_UNAVAILABLE, Reason.KEY_COMPROMISED))
_BADLY_SIGNED = frozenset((Reason.SIGNATURE_MISSING, Reason.SIGNATURE_INVALID))
#: What the auth rules of any version read of a state.
_JUDGED_BY = frozenset(
    ("m.room.create", "m.room.join_rules", "m.room.member", "m.room.power_levels", "m.room.third_party_invite")
)


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """What was answered: `pdus` holds each PDU once; `state` and `auth_chain` are indices into it."""

    pdus: list[Any]
    state: tuple[int, ...]
    auth_chain: tuple[int, ...]
    event: Any
    """Our event as the resident server has it; None where it was not answered."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A room as it was answered, well formed, with no signature checked: ids, and `order`, which are indices of the
    answer's PDUs: every event stands behind those that it cites, and the first `stands_on` are those by which our event
    is judged, and what these cite. `ruling` are those by which any event may be judged."""

    order: tuple[int, ...]
    state: tuple[str, ...]
    auth_chain: tuple[str, ...]
    create: str
    lets_us_in: tuple[str, ...]
    stands_on: int
    ruling: frozenset[str]


def read_join_answer(body: bytes, *, is_v1: bool = False) -> JoinAnswer:
    """The answer in the bytes; raises `AnswerRefused`. May take long: not for an event loop."""
    try:
        value = loads(body)
    except MatrixError as error:
        raise AnswerRefused(f"the answer is not JSON: {error}") from error
    # v1: "[200, {...}]"
    if is_v1:
        value = value[1] if type(value) is list and len(value) == 2 else None
    if type(value) is not dict:
        raise AnswerRefused("the answer is not an object")
    # We did not say `omit_members`: a part of the state is no state.
    if value.get("members_omitted") is True:
        raise AnswerRefused("members are omitted, which nobody asked for")
    return _answer(value, "state")


def read_state_answer(body: bytes) -> JoinAnswer:
    """The answer to GET state in the bytes, which has no event of ours; raises `AnswerRefused`. May take long."""
    try:
        value = loads(body)
    except MatrixError as error:
        raise AnswerRefused(f"the answer is not JSON: {error}") from error
    if type(value) is not dict:
        raise AnswerRefused("the answer is not an object")
    return _answer(value, "pdus")


def _answer(value: dict[str, Any], state_key: str) -> JoinAnswer:
    state, auth_chain = value.get(state_key), value.get("auth_chain")
    if type(state) is not list or type(auth_chain) is not list:
        raise AnswerRefused(f"{state_key} or auth_chain is missing or not an array")
    known: dict[bytes, int] = {}
    pdus: list[Any] = []
    indices = [_indices(listed, known, pdus) for listed in (state, auth_chain)]
    return JoinAnswer(pdus, indices[0], indices[1], value.get("event"))


def _indices(listed: list[Any], known: dict[bytes, int], pdus: list[Any]) -> tuple[int, ...]:
    """Most events of the auth chain are state as well: each is verified once."""
    found = []
    for pdu in listed:
        if type(pdu) is not dict:
            raise AnswerRefused("an event is not an object")
        pdu = without_unsigned(pdu)
        index = known.setdefault(_text_of(pdu), len(pdus))
        if index == len(pdus):
            pdus.append(pdu)
        found.append(index)
    return tuple(found)


def _text_of(pdu: dict[str, Any]) -> bytes:
    """Bytes by which events are told apart: the canonical ones, but for floats, of which each is written as itself."""
    try:
        return orjson.dumps(pdu, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # integers of more than 64 bits
        pass
    try:
        return canonical_bytes(pdu)
    except MatrixError as error:
        raise AnswerRefused(f"an event is not JSON that we write: {error}") from error


def check_same_event(answered: Any, ours: Event) -> None:
    """Raises `AnswerRefused` unless `answered` is our event, but for further signatures."""
    if type(answered) is not dict:
        raise AnswerRefused("our event is answered as something else")
    try:
        same = _unsigned(answered) == _unsigned(ours.pdu)
    except MatrixError as error:
        raise AnswerRefused(f"our event is answered in a form that we do not write: {error}") from error
    if not same:
        raise AnswerRefused("our event was changed")


def _unsigned(pdu: dict[str, Any]) -> bytes:
    return canonical_bytes({key: value for key, value in pdu.items() if key not in ("signatures", "unsigned")})


def plan_room(
    answer: JoinAnswer, prepared: Sequence[Prepared | Quarantined], asked: Asked, rules: RoomRules, ours: Event
) -> Plan:
    """How the answer hangs together; raises `AnswerRefused` where it does not. `prepared` are its PDUs."""
    ids: dict[int, str] = {}
    events: dict[str, Event] = {}
    for index, item in enumerate(prepared):
        if isinstance(item, Prepared):
            ids[index] = item.event.event_id
            events[item.event.event_id] = item.event
        else:
            event_type = answer.pdus[index].get("type")
            if not _is_left_out(item, is_ruling=type(event_type) is str and event_type in _JUDGED_BY):
                raise refusal_of(item)
    for event in events.values():
        if event.room_id != asked.room_id:
            raise AnswerRefused(f"{event.event_id} is of another room")
        if event.state_key is None:
            raise AnswerRefused(f"{event.event_id} is no state event")
    state = [ids[index] for index in answer.state if index in ids]
    _check_state(events[event_id] for event_id in state)
    create = _check_create(state, events, rules)
    _check_citations((*events.values(), ours), events.keys())
    # One event may be there in several forms (with other signatures): each of them must be good.
    places: dict[str, list[int]] = {}
    for index, event_id in ids.items():
        places.setdefault(event_id, []).append(index)
    needed = _stood_on(ours, {events[event_id].key: event_id for event_id in state}, events)
    ordered = sorted(_ordered(events, create), key=lambda event_id: event_id not in needed)
    return Plan(
        tuple(index for event_id in ordered for index in places[event_id]),
        tuple(dict.fromkeys(state)),
        tuple(dict.fromkeys(ids[index] for index in answer.auth_chain if index in ids)),
        create,
        ours.auth_events,
        sum(len(places[event_id]) for event_id in needed),
        frozenset(event_id for event_id, event in events.items() if event.type in _JUDGED_BY),
    )


def _stood_on(ours: Event, state: Mapping[StateKey, str], events: Mapping[str, Event]) -> set[str]:
    """By what our event is judged, and all that this cites, directly or not."""
    keys = (CREATE, *auth_types_for(ours.type, ours.sender, ours.state_key, ours.content, ours.rules))
    found: set[str] = set()
    todo = [*ours.auth_events, *(state[key] for key in keys if key in state)]
    while todo:
        event_id = todo.pop()
        if event_id not in found:
            found.add(event_id)
            todo += events[event_id].auth_events
    return found


def _is_left_out(found: Quarantined, *, is_ruling: bool) -> bool:
    """Whether the room is believed without an event. `is_ruling`: others are judged by it."""
    return found.reason in _LEFT_OUT or (found.reason in _BADLY_SIGNED and not is_ruling)


def refusal_of(found: Quarantined) -> AnswerRefused:
    """What such an event in an answer makes of the answer."""
    return AnswerRefused(f"{found.reason}: {found.event_id} {found.detail}"[:1000])


class Believed:
    """What can be used of a room, as its events are verified in the order of the plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._usable: set[str] = set()

    def take(self, outcomes: Iterable[Outcome]) -> list[Verified]:
        """The next events: those that can be used, each once. Raises `AnswerRefused`."""
        found = []
        for outcome in outcomes:
            if isinstance(outcome, Verified):
                event = outcome.event
                if event.event_id not in self._usable and all(cited in self._usable for cited in event.auth_events):
                    self._usable.add(event.event_id)
                    found.append(outcome)
                continue
            is_ruling = outcome.event_id in self._plan.ruling
            if isinstance(outcome, Quarantined) and not _is_left_out(outcome, is_ruling=is_ruling):
                raise refusal_of(outcome)
            # Nothing of a room is worth anything without it; from version 12 on no event says so by citing it.
            if outcome.event_id == self._plan.create:
                raise AnswerRefused(f"the create event cannot be verified: {outcome.detail}"[:1000])
        return found

    def check_lets_us_in(self) -> None:
        """Raises `AnswerRefused` where what our event cites cannot be used."""
        needed = (self._plan.create, *self._plan.lets_us_in)
        if lacking := [event_id for event_id in needed if event_id not in self._usable]:
            raise AnswerRefused(f"{lacking[0]}, which lets us in, cannot be verified")

    def ids(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(state, auth chain) without what was left out, when all was taken."""
        state = tuple(event_id for event_id in self._plan.state if event_id in self._usable)
        return state, tuple(event_id for event_id in self._plan.auth_chain if event_id in self._usable)


def _check_state(events: Iterable[Event]) -> None:
    holders: dict[StateKey, str] = {}
    for event in events:
        if holders.setdefault(event.key, event.event_id) != event.event_id:
            raise AnswerRefused(f"two events for {event.key[0][:255]!r} {event.key[1][:255]!r}")


def _check_create(state: Sequence[str], events: Mapping[str, Event], rules: RoomRules) -> str:
    """The create event's id: there is one, in the state, and it is of the version by which we signed."""
    creates = {event_id for event_id, event in events.items() if event.key == CREATE}
    found = creates & set(state)
    if len(creates) != 1 or creates != found:
        raise AnswerRefused(f"{len(creates)} create events, {len(found)} of them in the state")
    [create] = creates
    version = events[create].content.get("room_version", "1")
    if version != rules.version:
        raise AnswerRefused(f"the room is of version {str(version)[:64]!r}, the template was of {rules.version}")
    return create


def _check_citations(events: Iterable[Event], named: AbstractSet[str]) -> None:
    """ "All events in the auth chain for the new join event, as well as those in the auth chains for any events
    returned in `state`"."""
    for event in events:
        for cited in event.auth_events:
            if cited not in named:
                raise AnswerRefused(f"{event.event_id} cites {cited}, which the answer lacks")


def _ordered(events: Mapping[str, Event], create: str) -> list[str]:
    """What is cited first; the create event, which version 12 does not cite, before all."""
    begun: set[str] = set()
    done: dict[str, None] = {}
    for start in (create, *events):
        stack = [start]
        while stack:
            event_id = stack[-1]
            if event_id in done:
                stack.pop()
                continue
            open_ones = [c for c in events[event_id].auth_events if c not in done]
            if not open_ones:
                done[stack.pop()] = None
            elif event_id in begun:
                # Only ids that their senders chose (versions 1 and 2) can make one.
                raise AnswerRefused(f"{event_id} is in a circle of citations")
            else:
                begun.add(event_id)
                stack += open_ones
    return list(done)
