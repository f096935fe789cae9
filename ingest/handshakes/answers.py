"""The answer to send_join: a whole room, read and checked before anything of it is on the log. Pure.

    read_join_answer   bytes ─▶ PDUs, each once
    whole_room         PDUs and what verification said of each ─▶ the room's state and auth chain, in an order in which
                       every event stands behind those that it cites

What a server cannot have taken in good faith (a forged signature, an event of another room, two events for one key, a
citation that leads nowhere) makes the whole answer worthless. What only cannot be verified here, as its server's keys
are not to be had, is left out, with all that cites it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from annals.ingest.handshakes.errors import AnswerRefused
from annals.ingest.handshakes.templates import Asked
from annals.ingest.verification import KeyUnavailable, Outcome, Quarantined, Reason, Verified
from annals.matrix.canonical_json import canonical_bytes, loads
from annals.matrix.errors import MatrixError
from annals.matrix.events import Event, StateKey
from annals.matrix.format import without_unsigned
from annals.matrix.room_versions import RoomRules

CREATE: StateKey = ("m.room.create", "")
_LEFT_OUT = frozenset((Reason.KEY_NOT_VALID, Reason.KEY_UNAVAILABLE))


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """What was answered: `pdus` holds each PDU once; `state` and `auth_chain` are indices into it."""

    pdus: list[Any]
    state: tuple[int, ...]
    auth_chain: tuple[int, ...]
    event: Any
    """Our event as the resident server has it; None where it was not answered."""


@dataclass(frozen=True, slots=True)
class WholeRoom:
    """A room as it was before our event: all events that can be used, what is cited first."""

    events: tuple[Verified, ...]
    state: tuple[str, ...]
    auth_chain: tuple[str, ...]
    left_out: int


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
        try:
            text = canonical_bytes(pdu)
        except MatrixError as error:
            raise AnswerRefused(f"an event is not JSON that we write: {error}") from error
        index = known.setdefault(text, len(pdus))
        if index == len(pdus):
            pdus.append(pdu)
        found.append(index)
    return tuple(found)


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


def whole_room(
    answer: JoinAnswer, outcomes: Sequence[Outcome], asked: Asked, rules: RoomRules, ours: Event
) -> WholeRoom:
    """What of the answer can be used; raises `AnswerRefused`. `outcomes` are those of `answer.pdus`."""
    for outcome in outcomes:
        if isinstance(outcome, Quarantined) and outcome.reason not in _LEFT_OUT:
            raise AnswerRefused(f"{outcome.reason}: {outcome.event_id} {outcome.detail}"[:1000])
    verified = {outcome.event.event_id: outcome for outcome in outcomes if isinstance(outcome, Verified)}
    for item in verified.values():
        if item.event.room_id != asked.room_id:
            raise AnswerRefused(f"{item.event.event_id} is of another room")
        if item.event.state_key is None:
            raise AnswerRefused(f"{item.event.event_id} is no state event")
    state = [_event_id(outcomes[index]) for index in answer.state]
    auth_chain = [_event_id(outcomes[index]) for index in answer.auth_chain]
    _check_state([verified[event_id].event for event_id in state if event_id in verified])
    create = _check_create(state, verified, rules)
    named = {_event_id(outcome) for outcome in outcomes}
    _check_citations((*(item.event for item in verified.values()), ours), named)
    ordered = _ordered(verified, create)
    usable = _usable(ordered, verified)
    if lacking := [event_id for event_id in ours.auth_events if event_id not in usable]:
        raise AnswerRefused(f"{lacking[0]}, which lets us in, cannot be verified")
    return WholeRoom(
        tuple(verified[event_id] for event_id in ordered if event_id in usable),
        tuple(event_id for event_id in dict.fromkeys(state) if event_id in usable),
        tuple(event_id for event_id in dict.fromkeys(auth_chain) if event_id in usable),
        len(named) - len(usable),
    )


def _event_id(outcome: Outcome) -> str:
    if isinstance(outcome, Verified):
        return outcome.event.event_id
    # What has no id at all was refused before.
    return outcome.event_id if isinstance(outcome, KeyUnavailable) else outcome.event_id or ""


def _check_state(events: Iterable[Event]) -> None:
    holders: dict[StateKey, str] = {}
    for event in events:
        if holders.setdefault(event.key, event.event_id) != event.event_id:
            raise AnswerRefused(f"two events for {event.key[0][:255]!r} {event.key[1][:255]!r}")


def _check_create(state: Sequence[str], verified: dict[str, Verified], rules: RoomRules) -> str:
    """The create event's id: there is one, in the state, and it is of the version by which we signed."""
    creates = {event_id for event_id, item in verified.items() if item.event.key == CREATE}
    found = creates & set(state)
    if len(creates) != 1 or creates != found:
        raise AnswerRefused(f"{len(creates)} create events, {len(found)} of them in the state")
    [create] = creates
    version = verified[create].event.content.get("room_version", "1")
    if version != rules.version:
        raise AnswerRefused(f"the room is of version {str(version)[:64]!r}, the template was of {rules.version}")
    return create


def _check_citations(events: Iterable[Event], named: set[str]) -> None:
    """ "All events in the auth chain for the new join event, as well as those in the auth chains for any events
    returned in `state`"."""
    for event in events:
        for cited in event.auth_events:
            if cited not in named:
                raise AnswerRefused(f"{event.event_id} cites {cited}, which the answer lacks")


def _ordered(verified: dict[str, Verified], create: str) -> list[str]:
    """What is cited first; the create event, which version 12 does not cite, before all."""
    begun: set[str] = set()
    done: dict[str, None] = {}
    for start in (create, *verified):
        stack = [start]
        while stack:
            event_id = stack[-1]
            if event_id in done:
                stack.pop()
                continue
            open_ones = [c for c in verified[event_id].event.auth_events if c in verified and c not in done]
            if not open_ones:
                done[stack.pop()] = None
            elif event_id in begun:
                # Only ids that their senders chose (versions 1 and 2) can make one.
                raise AnswerRefused(f"{event_id} is in a circle of citations")
            else:
                begun.add(event_id)
                stack += open_ones
    return list(done)


def _usable(ordered: Sequence[str], verified: dict[str, Verified]) -> set[str]:
    """Without what cites something that was left out."""
    usable: set[str] = set()
    for event_id in ordered:
        if all(cited in usable for cited in verified[event_id].event.auth_events):
            usable.add(event_id)
    return usable
