"""The question: is a user of ours in that room? What a server answers is looked at, and our signature decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from annals.federation.client import path_of
from annals.federation.errors import FederationError, Refused
from annals.ingest.handshakes.answers import CREATE, JoinAnswer, read_state_answer
from annals.ingest.handshakes.desk import Desk
from annals.ingest.handshakes.errors import AnswerRefused
from annals.ingest.verification import Candidate, Verified
from annals.matrix.errors import InvalidIdentifier, MatrixError
from annals.matrix.events import parse_event
from annals.matrix.format import without_unsigned
from annals.matrix.identifiers import domain_of, is_hashed_room_id
from annals.matrix.room_versions import ROOM_VERSIONS, RoomRules

NO_MEMBER, NOT_SIGNED, NO_EVENT_ID, MEMBER = "no_member", "not_signed_by_us", "no_event_id", "member"
REFUSED, NOT_ANSWERED, WRONG_ANSWER, UNKNOWN_VERSION = "refused", "not_answered", "wrong_answer", "unknown_version"

#: A room of many thousand members has some ten MiB. A stranger's word makes us read no more than this.
STATE_BYTES_MAX = 64 << 20
STATE_TIMEOUT_S = 60.0
#: Of joins that name users of ours, so many are verified, the youngest first.
JOINS_MAX = 20


@dataclass(frozen=True, slots=True)
class Membership:
    """What came of the question: the youngest join of a user of ours, or why there is none."""

    event_id: str
    reason: str
    rules: RoomRules | None = None
    join: Verified | None = None

    @property
    def user_id(self) -> str | None:
        """Who of us is in the room."""
        return None if self.join is None else self.join.event.sender


async def membership(desk: Desk, server: str, room_id: str, pdu: Any) -> Membership:
    """Ask the server for the state at the event that it sent. Raises nothing for whatever the server does."""
    event_ids = possible_ids(room_id, pdu)
    found = Membership("", NO_EVENT_ID)
    for event_id in event_ids:
        try:
            answer = await state_at(desk, server, room_id, event_id)
            return await _member(desk, room_id, event_id, answer)
        except Refused as error:
            found = Membership(event_id, REFUSED)
            if error.status != 404:
                break
        except AnswerRefused:
            return Membership(event_id, WRONG_ANSWER)
        except FederationError:
            return Membership(event_id, NOT_ANSWERED)
    return found


def possible_ids(room_id: str, pdu: Any) -> list[str]:
    """The ids that the event may have: it does not say of which version its room is, and few versions differ."""
    if type(pdu) is not dict:
        return []
    hashed, found = is_hashed_room_id(room_id), dict[str, None]()
    for version in sorted(ROOM_VERSIONS, key=int, reverse=True):
        rules = ROOM_VERSIONS[version]
        if rules.room_id_is_create_hash != hashed:
            continue
        try:
            found[parse_event(without_unsigned(pdu), rules).event_id] = None
        except MatrixError:
            continue
    return list(found)


async def state_at(desk: Desk, server: str, room_id: str, event_id: str) -> JoinAnswer:
    """The state before an event. Raises FederationError and AnswerRefused."""
    path = path_of("federation", "v1", "state", room_id)
    body = await desk.client.ask(
        server, "GET", path, [("event_id", event_id)], timeout_s=STATE_TIMEOUT_S, bytes_max=STATE_BYTES_MAX
    )
    return await desk.in_thread(partial(read_state_answer, body))


async def _member(desk: Desk, room_id: str, event_id: str, answer: JoinAnswer) -> Membership:
    state = [answer.pdus[index] for index in answer.state]
    rules = _rules(state)
    if rules is None:
        return Membership(event_id, UNKNOWN_VERSION)
    joins = _joins(state, desk.server_name)
    if not joins:
        return Membership(event_id, NO_MEMBER)
    outcomes = await desk.pdus.verify([Candidate(pdu, rules) for pdu in joins])
    ours = [item for item in outcomes if isinstance(item, Verified) and _is_join_in(item, room_id)]
    if not ours:
        return Membership(event_id, NOT_SIGNED)
    return Membership(event_id, MEMBER, rules, max(ours, key=lambda item: item.event.depth))


def _rules(state: Sequence[dict[str, Any]]) -> RoomRules | None:
    creates = [pdu for pdu in state if (pdu.get("type"), pdu.get("state_key")) == CREATE]
    content = creates[0].get("content") if len(creates) == 1 else None
    version = content.get("room_version", "1") if type(content) is dict else None
    return ROOM_VERSIONS.get(version) if type(version) is str else None


def _joins(state: Sequence[dict[str, Any]], server_name: str) -> list[dict[str, Any]]:
    found = [pdu for pdu in state if pdu.get("type") == "m.room.member" and _names_us(pdu, server_name)]
    return sorted(found, key=_depth, reverse=True)[:JOINS_MAX]


def _names_us(pdu: dict[str, Any], server_name: str) -> bool:
    user_id, content = pdu.get("state_key"), pdu.get("content")
    if type(user_id) is not str or user_id != pdu.get("sender") or type(content) is not dict:
        return False
    try:
        return content.get("membership") == "join" and domain_of(user_id) == server_name
    except InvalidIdentifier:
        return False


def _depth(pdu: dict[str, Any]) -> int:
    depth = pdu.get("depth")
    return depth if type(depth) is int else 0


def _is_join_in(item: Verified, room_id: str) -> bool:
    # The redacted form, where the content hash failed, is still a join if that was what we signed.
    return item.event.room_id == room_id and item.event.content.get("membership") == "join"
