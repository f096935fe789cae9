"""Rooms of other servers as they reach us: the facts of a join, of a gap, of an invite."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.events import Event
from annals.rooms.ancestors import cited_ids
from annals.schemas.facts.rooms import (
    HandshakeFailed,
    HandshakeStarted,
    MembershipAsked,
    MembershipReceived,
    PduFact,
    RoomFact,
    StateSetChunk,
    StateSetClosed,
)
from tests.support.room_weaver import ALICE, CAROL, MEMBER, Weaver, woven
from tests.support.rooms import envelope, fetched, received

ERIN, FRANK = "@erin:test", "@frank:test"
"""Users of ours who are not in woven rooms."""

_CHUNK = 3


def started(room_id: str, handshake_id: str = "h1", user_id: str = ERIN, kind: str = "join") -> HandshakeStarted:
    """A user of ours wants into the room, or out of it."""
    return HandshakeStarted(envelope(), room_id, handshake_id, kind, user_id, ("peer", "other"), b'{"displayname":"E"}')


def failed(room_id: str, handshake_id: str = "h1") -> HandshakeFailed:
    """Nobody has let us."""
    return HandshakeFailed(envelope(), room_id, handshake_id, "peer", 403, "M_FORBIDDEN", "not invited")


def outsider(event: Event, room_state: Sequence[dict[str, Any]] = (), handshake: str | None = None) -> RoomFact:
    """A member event of a user of ours in a room that we are not in."""
    fact = received(event)
    values = {name: getattr(fact, name) for name in fact.__slots__}
    values |= {name: getattr(fact, name) for name in ("envelope", "room_id", "event_id", "room_version", "skeleton")}
    state = canonical_bytes(list(room_state))
    return MembershipReceived(**values, body=fact.body, room_state=state, handshake_id=handshake)


def join_facts(weaver: Weaver, set_id: str = "s1", handshake: str | None = "h1", known: Collection[str] = ()) -> Answer:
    """What is logged of a join of erin, behind HandshakeStarted: she joins on the room's heads."""
    before = weaver.oracle.joined(sorted(weaver.oracle.extremities)[:10])
    joined = weaver.add((MEMBER, ERIN, ERIN, {"membership": "join"}))
    facts = state_facts(weaver, before.values(), joined, set_id, known)
    closed = StateSetClosed(
        envelope(), weaver.room_id, set_id, "join", joined.event_id, "peer", len(before), 0, handshake
    )
    return Answer(joined, [*facts, closed])


def gap_facts(weaver: Weaver, event: Event, set_id: str = "g1", known: Collection[str] = ()) -> Answer:
    """What is logged where /state_ids is asked at an event whose own prev_events we lack."""
    before = weaver.oracle.before[event.event_id]
    facts = state_facts(weaver, before.values(), event, set_id, known)
    closed = StateSetClosed(envelope(), weaver.room_id, set_id, "gap", event.event_id, "peer", len(before), 0, None)
    return Answer(event, [*facts, closed])


def below(weaver: Weaver, past: Sequence[Event], known: Collection[str]) -> list[RoomFact]:
    """What is logged where all is filled that these events lack, what they should not cite included."""
    here = {event.event_id for event in past}
    lacking = dict.fromkeys(event_id for event in past for event_id in event.prev_events if event_id not in here)
    chain = auth_chain(weaver, here) - here - set(known)
    facts: list[RoomFact] = [fetched(event, "auth") for event in weaver.events if event.event_id in chain]
    for number, event_id in enumerate(lacking):
        missing = weaver.oracle.events[event_id]
        logged = {*known, *here, *(fact.event_id for fact in pdus(facts))}
        # Nothing lies below the create event.
        below_it = gap_facts(weaver, missing, f"below{number}", logged).facts if missing.prev_events else ()
        facts += below_it or [fetched(missing, "backfill")]
    return facts


def pdus(facts: Iterable[RoomFact]) -> list[PduFact]:
    """Those that are events."""
    return [fact for fact in facts if isinstance(fact, PduFact)]


class Answer:
    """The event that a set is about, and the facts; the last of them closes the set."""

    def __init__(self, event: Event, facts: list[RoomFact]) -> None:
        self.event, self.facts = event, facts

    @property
    def closed(self) -> StateSetClosed:
        """The last fact."""
        fact = self.facts[-1]
        assert isinstance(fact, StateSetClosed)
        return fact


def state_facts(
    weaver: Weaver, state: Iterable[str], event: Event, set_id: str, known: Collection[str] = ()
) -> list[RoomFact]:
    """The auth chain and the state as outliers, the chunks that name them, and the event as anchor."""
    ids = sorted(state)
    chain = auth_chain(weaver, [*ids, *event.auth_events])
    facts: list[RoomFact] = []
    for other in weaver.events:
        if other.event_id in known or other.event_id == event.event_id:
            continue
        if other.event_id in chain or other.event_id in ids:
            facts.append(fetched(other, "state" if other.event_id in ids else "auth"))
    facts.extend(chunks(weaver.room_id, set_id, "state", ids))
    facts.extend(chunks(weaver.room_id, set_id, "auth", sorted(chain)))
    return [*facts, fetched(event, "anchor")]


def chunks(room_id: str, set_id: str, role: str, ids: Sequence[str]) -> list[RoomFact]:
    """The ids in chunks of a few."""
    cut = [tuple(ids[start : start + _CHUNK]) for start in range(0, len(ids), _CHUNK)]
    return [StateSetChunk(envelope(), room_id, set_id, role, index, part) for index, part in enumerate(cut)]


def auth_chain(weaver: Weaver, event_ids: Iterable[str]) -> set[str]:
    """All that these events lead to by auth_events, themselves too."""
    events, found, todo = weaver.oracle.events, set[str](), list(event_ids)
    while todo:
        event_id = todo.pop()
        if event_id not in found:
            found.add(event_id)
            event = events[event_id]
            todo += cited_ids(event.room_id, event_id, event.type, event.auth_events, event.rules)
    return found


def go_on(weaver: Weaver, first: int, count: int) -> list[Event]:
    """Let more happen behind the event at index `first`, as forked as it may be; the new events."""
    for _ in range(count):
        here = [event.event_id for event in weaver.events[first:]]
        prev = sorted(set(weaver.rng.choices(here[-6:], k=weaver.rng.choice((1, 1, 2)))))
        if weaver.rng.random() < 0.4:
            prev = sorted(weaver.oracle.extremities)[:10]
        wish = weaver._choose_wish(weaver.oracle.joined(prev))
        weaver.add(wish, prev)
    return weaver.events[-count:]


STRIPPED = {"type": "m.room.name", "state_key": "", "sender": ALICE, "content": {"name": "a\x00b"}}


def story(version: str, seed: int = 1) -> tuple[str, list[RoomFact]]:
    """A room that we are invited to, try to join twice, join, lose sight of for a while, leave and join again."""
    weaver = woven(seed, version, 8)
    room_id = weaver.room_id
    invite = weaver.add((MEMBER, ALICE, FRANK, {"membership": "invite"}))
    facts: list[RoomFact] = [
        MembershipAsked(envelope(), room_id, "peer", "$x", None, "nobody"),
        outsider(invite, [STRIPPED]),
        started(room_id, "h0"),
        received(weaver.events[-1]),
        failed(room_id, "h0"),
        started(room_id),
        started(room_id, "h2", FRANK),
    ]
    answer = join_facts(weaver)
    first = len(weaver.events) - 1
    later = go_on(weaver, first, 6)
    facts += [*answer.facts[:3], *map(received, later[:4]), *answer.facts[3:], *map(received, later[4:])]
    # What the join follows comes afterwards.
    past = weaver.events[first - 3 : first]
    facts += [*map(received, reversed(past)), *below(weaver, past, known={fact.event_id for fact in pdus(facts)})]
    known = {event.event_id for event in weaver.events}
    go_on(weaver, len(weaver.events) - 1, 4)
    missing = weaver.add(("m.room.message", ALICE, None, {}))
    behind = weaver.add(("m.room.message", CAROL, None, {}), [missing.event_id])
    facts += [fetched(behind, "missing_events"), *gap_facts(weaver, missing, known=known).facts]
    facts += [outsider(weaver.add((MEMBER, ERIN, ERIN, {"membership": "leave"}))), started(room_id, "h3")]
    facts.append(received(weaver.add(("m.room.message", CAROL, None, {"n": 2}))))
    return room_id, facts
