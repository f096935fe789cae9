"""The view of one room: what the machine knows of it at a point of its partition.

A view is an immutable value, so that a batch works on copies that become the cache only after its commit. It is
partial: what is not in it raises `Lacking`, and the loop loads it (`learn`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

from immutables import Map

from annals.matrix.canonical_json import loads
from annals.matrix.events import Event, StateKey, event_of
from annals.matrix.quick import maker, quick
from annals.matrix.room_versions import ROOM_VERSIONS, RoomRules
from annals.rooms.auth_chains import Place
from annals.rooms.fingerprint import sum_of
from annals.rooms.needs import (
    ChainsBelow,
    CitingChain,
    FirstOfKey,
    Glimpse,
    Loaded,
    Needs,
    OpenHandshake,
    Places,
    Range,
    StoredEvent,
    StoredHeader,
)
from annals.rooms.state import (
    EMPTY_STATE_ID,
    Lacking,
    RoomState,
    empty_state,
    known_changes,
    learn_changes,
    stored_state,
)
from annals.schemas.facts.rooms import RoomFact

ACCEPTED, SOFT_FAILED, REJECTED = "accepted", "soft_failed", "rejected"
PARKED, DROPPED, PENDING_POLICY = "parked", "dropped", "pending_policy"

#: Verdicts of events that are in the room's DAG.
IN_DAG = frozenset((ACCEPTED, SOFT_FAILED, REJECTED, PENDING_POLICY))

#: Verdicts of events that have a place in the chain cover (annals.rooms.auth_chains).
PLACED = IN_DAG - {REJECTED}

_EVENT_BYTES = 3_500
_GLIMPSE_BYTES = 400
_STATE_KEY_BYTES = 200
_ROOM_BYTES = 3_000


@quick
@dataclass(frozen=True, slots=True)
class Entry:
    """An event and what was decided about it."""

    event: Event
    verdict: str
    outlier: bool
    backfilled: bool
    provisional: bool
    source: int
    position: int
    state_before: int | None = None
    state_after: int | None = None
    idempotency_key: str | None = None
    redacted_by: str | None = None
    missing: tuple[str, ...] = ()
    """What a parked event waits for; of the accepted join by which we came into the room, its prev_events."""
    out_of_band: bool = False
    """An outlier that was taken without any check: a membership in a room of which we know nothing else."""

    @property
    def known(self) -> bool:
        """In the room's DAG: a repeat of it makes no decision."""
        return not self.outlier and self.verdict in IN_DAG

    @property
    def present_as_auth(self) -> bool:
        """Enough for another event to cite it in auth_events; rejected ones included."""
        return self.verdict in IN_DAG


@quick
@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a room as a whole. A room that is not known has no rules and no create event."""

    rules: RoomRules | None = None
    create_event_id: str | None = None
    extremities: tuple[str, ...] = ()
    current_state_id: int = EMPTY_STATE_ID
    min_depth: int | None = None
    halted_at: int | None = None
    waiting: tuple[int, ...] = ()
    parked: Map[str, Entry] = field(default_factory=Map)
    waiting_for: Map[str, frozenset[str]] = field(default_factory=Map)
    """By an event that parked ones lack: these. Follows from `parked`."""
    wanted: frozenset[str] = frozenset()
    pending_redactions: Map[str, tuple[str, ...]] = field(default_factory=Map)
    handshakes: tuple[OpenHandshake, ...] = ()
    """Those without an outcome, oldest first."""
    queued: tuple[int, ...] = ()
    """Offsets of the facts that wait until the handshake that holds the queue has ended."""
    entered_after: frozenset[str] = frozenset()
    """What the join by which we came into the room follows: none of it was here then."""


def waiting_with(waiting_for: Map[str, frozenset[str]], parked: Entry) -> Map[str, frozenset[str]]:
    """`Header.waiting_for` after an event was parked."""
    waits = frozenset([parked.event.event_id])
    return waiting_for.update({other: waiting_for.get(other, frozenset()) | waits for other in parked.missing})


def waiting_without(waiting_for: Map[str, frozenset[str]], parked: Entry) -> Map[str, frozenset[str]]:
    """`Header.waiting_for` after an event left the parking place."""
    for other in parked.missing:
        rest = waiting_for.get(other, frozenset()) - {parked.event.event_id}
        waiting_for = waiting_for.set(other, rest) if rest else waiting_for.delete(other)
    return waiting_for


@quick
@dataclass(frozen=True, slots=True)
class AuthGraph:
    """What is loaded of the chain cover; `fresh` are the events decided since, which are not in it yet."""

    places: Map[str, Place | None] = field(default_factory=Map)
    citing: Map[tuple[int, int, int, int], tuple[CitingChain, ...]] = field(default_factory=Map)
    fresh: Map[str, Entry] = field(default_factory=Map)
    between: Map[tuple[Places, Places], frozenset[str]] = field(default_factory=Map)
    mainlines: Map[int, Place | None] = field(default_factory=Map)
    below: Map[Places, ChainsBelow] = field(default_factory=Map)
    ranges: Map[tuple[Range, ...], frozenset[str]] = field(default_factory=Map)


@quick
@dataclass(frozen=True, slots=True)
class Beside:
    """What is loaded of sets from outside and of memberships, and what was decided about them since
    (`chunks`, by set the ids of role state; `moved`, by user the membership): that is not in the tables yet."""

    sets: Map[str, tuple[str, ...]] = field(default_factory=Map)
    glimpses: Map[str, Glimpse | None] = field(default_factory=Map)
    residents: Map[tuple[str, ...], bool] = field(default_factory=Map)
    servers: Map[tuple[str, tuple[str, ...]], bool] = field(default_factory=Map)
    memberships: Map[str, str | None] = field(default_factory=Map)
    chunks: Map[str, tuple[str, ...]] = field(default_factory=Map)
    moved: Map[str, str | None] = field(default_factory=Map)


@dataclass(frozen=True, slots=True)
class Passed:
    """The events by which one was judged: `cited`, and in version 12 the create event; `ids` are theirs, by key."""

    cited: tuple[Entry, ...]
    create: Entry | None
    ids: Mapping[StateKey, str]


@quick
@dataclass(frozen=True, slots=True)
class RoomView:
    """All that is loaded of a room. `header` None: not even asked for."""

    room_id: str
    header: Header | None = None
    events: Map[str, Entry | None] = field(default_factory=Map)
    states: Map[int, RoomState] = field(default_factory=Map)
    keys: Map[str, FirstOfKey | None] = field(default_factory=Map)
    facts: Map[int, RoomFact] = field(default_factory=Map)
    auth: AuthGraph = field(default_factory=AuthGraph)
    beside: Beside = field(default_factory=Beside)
    passed: dict[Hashable, Passed] = field(default_factory=dict, compare=False, repr=False)
    """By kind of events (annals.matrix.auth_rules.kind_of) what one passed check 4 by. A cache, of this view and those
    made from it: what it says holds wherever the same is cited."""

    @property
    def weight_bytes(self) -> int:
        """Roughly what the view holds in memory."""
        keys = sum(len(state.known) for state in self.states.values())
        beside = len(self.beside.glimpses) * _GLIMPSE_BYTES
        return len(self.events) * _EVENT_BYTES + keys * _STATE_KEY_BYTES + beside + _ROOM_BYTES

    def known_header(self) -> Header:
        """The header; raises Lacking where it is not loaded."""
        if self.header is None:
            raise Lacking(Needs(rooms=frozenset([self.room_id])))
        return self.header

    def entry(self, event_id: str) -> Entry | None:
        """The event, or None where it is not here; raises Lacking where that is not known."""
        try:
            return self.events[event_id]
        except KeyError:
            raise Lacking(Needs(events=frozenset([(self.room_id, event_id)]))) from None

    def state(self, state_id: int) -> RoomState:
        """A state of the room; raises Lacking where its frame is not loaded."""
        if state_id == EMPTY_STATE_ID:
            return empty_state(self.room_id)
        try:
            return self.states[state_id]
        except KeyError:
            raise Lacking(Needs(states=frozenset([(self.room_id, state_id)]))) from None

    def first_of_key(self, key: str) -> FirstOfKey | None:
        """The fact that has an idempotency key, if any; raises Lacking where that is not known."""
        try:
            return self.keys[key]
        except KeyError:
            raise Lacking(Needs(keys=frozenset([(self.room_id, key)]))) from None

    # Written out, as they stand on the hot path: dataclasses.replace takes several times as long.

    def with_header(self, header: Header) -> RoomView:
        """The view with another header."""
        return _view(
            self.room_id, header, self.events, self.states, self.keys, self.facts, self.auth, self.beside, self.passed
        )

    def with_entry(self, entry: Entry) -> RoomView:
        """The view with an event and its verdict."""
        events = self.events.set(entry.event.event_id, entry)
        auth = self.auth
        if entry.event.is_state and entry.verdict in PLACED:
            fresh = auth.fresh.set(entry.event.event_id, entry)
            auth = AuthGraph(auth.places, auth.citing, fresh, auth.between, auth.mainlines, auth.below, auth.ranges)
        return _view(
            self.room_id, self.header, events, self.states, self.keys, self.facts, auth, self.beside, self.passed
        )

    def with_state(self, state: RoomState) -> RoomView:
        """The view with a state."""
        states = self.states.set(state.state_id, state)
        return _view(
            self.room_id, self.header, self.events, states, self.keys, self.facts, self.auth, self.beside, self.passed
        )

    def with_key(self, key: str, first: FirstOfKey | None) -> RoomView:
        """The view with the holder of an idempotency key."""
        keys = self.keys.set(key, first)
        return _view(
            self.room_id, self.header, self.events, self.states, keys, self.facts, self.auth, self.beside, self.passed
        )

    def with_beside(self, beside: Beside) -> RoomView:
        """The view with another `beside`."""
        return _view(
            self.room_id, self.header, self.events, self.states, self.keys, self.facts, self.auth, beside, self.passed
        )

    def place(self, event_id: str) -> Place | None:
        """The place of an event in the chain cover, if it has one; raises Lacking where that is not known."""
        try:
            return self.auth.places[event_id]
        except KeyError:
            raise Lacking(Needs(auth_places=frozenset([(self.room_id, event_id)]))) from None

    def current_state(self) -> RoomState:
        """The room's current state."""
        return self.state(self.known_header().current_state_id)


_view = maker(RoomView)


def unknown_room(room_id: str) -> RoomView:
    """The view of a room of which nothing is loaded."""
    return RoomView(room_id)


def learn(view: RoomView, loaded: Loaded) -> RoomView:
    """The view with what was loaded for it. What it knows already stands: it may be younger than the tables."""
    room_id = view.room_id
    header, events = view.header, view.events
    if header is None and room_id in loaded.rooms:
        stored = loaded.rooms[room_id]
        header = _header(stored) if stored else Header()
        events = events.update({event_id: entry for event_id, entry in header.parked.items() if event_id not in events})
    fresh = {
        event_id: _entry(found) if found else None
        for (room, event_id), found in loaded.events.items()
        if room == room_id and events.get(event_id) is None
    }
    return replace(
        view,
        header=header,
        events=events.update(fresh),
        states=_learned_states(view, loaded),
        keys=view.keys.update({k: v for (room, k), v in loaded.keys.items() if room == room_id and k not in view.keys}),
        facts=view.facts.update({o: fact for (room, o), fact in loaded.facts.items() if room == room_id}),
        auth=_learned_auth(view, loaded),
        beside=_learned_beside(view, loaded),
    )


def _learned_beside(view: RoomView, loaded: Loaded) -> Beside:
    if not (loaded.sets or loaded.glimpses or loaded.residents or loaded.memberships or loaded.servers):
        return view.beside
    room_id, beside = view.room_id, view.beside
    return replace(
        beside,
        sets=beside.sets.update({s: tuple(ids) for (room, s), ids in loaded.sets.items() if room == room_id}),
        glimpses=beside.glimpses.update({e: seen for (room, e), seen in loaded.glimpses.items() if room == room_id}),
        residents=beside.residents.update(
            {u: found for (room, u), found in loaded.residents.items() if room == room_id}
        ),
        servers=beside.servers.update(
            {(server, users): found for (room, server, users), found in loaded.servers.items() if room == room_id}
        ),
        memberships=beside.memberships.update({u: m for (room, u), m in loaded.memberships.items() if room == room_id}),
    )


def _learned_auth(view: RoomView, loaded: Loaded) -> AuthGraph:
    paths = loaded.between or loaded.mainlines or loaded.below or loaded.ranges
    if not (loaded.auth_places or loaded.citing_chains or paths):
        return view.auth
    room_id, auth = view.room_id, view.auth
    places = {event_id: place for (room, event_id), place in loaded.auth_places.items() if room == room_id}
    citing = {page[1:]: tuple(found) for page, found in loaded.citing_chains.items() if page[0] == room_id}
    between = {(tops, bottoms): found for (room, tops, bottoms), found in loaded.between.items() if room == room_id}
    mainlines = {chain_id: below for (room, chain_id), below in loaded.mainlines.items() if room == room_id}
    return AuthGraph(
        places=auth.places.update(places),
        citing=auth.citing.update(citing),
        fresh=auth.fresh,
        between=auth.between.update(between),
        mainlines=auth.mainlines.update(mainlines),
        below=auth.below.update({tops: found for (room, tops), found in loaded.below.items() if room == room_id}),
        ranges=auth.ranges.update({named: ids for (room, named), ids in loaded.ranges.items() if room == room_id}),
    )


def _learned_states(view: RoomView, loaded: Loaded) -> Map[int, RoomState]:
    room_id, states = view.room_id, view.states
    for (room, state_id), stored in loaded.states.items():
        if room == room_id and state_id not in states:
            states = states.set(state_id, stored_state(room_id, stored, sum_of(stored.element_sum)))
    keys: dict[int, dict[tuple[str, str], str | None]] = {}
    for (room, state_id, event_type, state_key), event_id in loaded.state_keys.items():
        if room == room_id:
            keys.setdefault(state_id, {})[event_type, state_key] = event_id
    wholes = {state_id: whole for (room, state_id), whole in loaded.whole_states.items() if room == room_id}
    changes = {state_id: delta for (room, state_id), delta in loaded.changes.items() if room == room_id}
    if len(states) > len(view.states):
        # Lines of states meet: what one of them knows is not asked for again for another.
        changes = known_changes(view.states.values()) | changes
    for state_id, state in states.items():
        learned = state
        if state.stored_id in keys and not state.complete:
            learned = learned.learn_keys(keys[state.stored_id])
        if state.stored_id in wholes and not state.complete:
            learned = learned.learn_whole(wholes[state.stored_id])
        if changes:
            learned = learn_changes(learned, changes)
        if learned is not state:
            states = states.set(state_id, learned)
    return states


def _header(stored: StoredHeader) -> Header:
    parked = {event.event_id: _entry(event) for event in stored.parked}
    waiting_for: Map[str, frozenset[str]] = Map()
    for entry in parked.values():
        waiting_for = waiting_with(waiting_for, entry)
    return Header(
        rules=ROOM_VERSIONS[stored.room_version] if stored.room_version else None,
        create_event_id=stored.create_event_id or None,
        extremities=stored.extremities,
        current_state_id=stored.current_state_id or EMPTY_STATE_ID,
        min_depth=stored.min_depth,
        halted_at=stored.halted_at,
        waiting=stored.waiting,
        parked=Map(parked),
        waiting_for=waiting_for,
        wanted=stored.wanted,
        pending_redactions=Map(stored.pending_redactions),
        handshakes=stored.handshakes,
        queued=stored.queued,
        entered_after=stored.entered_after,
    )


def _entry(stored: StoredEvent) -> Entry:
    event = event_of(loads(stored.pdu), ROOM_VERSIONS[stored.room_version], stored.event_id)
    return Entry(
        event=event,
        verdict=stored.verdict,
        outlier=stored.outlier,
        backfilled=stored.backfilled,
        provisional=stored.provisional,
        source=stored.source,
        position=stored.position,
        state_before=stored.state_before,
        state_after=stored.state_after,
        idempotency_key=stored.idempotency_key,
        redacted_by=stored.redacted_by,
        missing=stored.missing,
        out_of_band=stored.out_of_band,
    )


def glimpse_of(entry: Entry) -> Glimpse:
    """The event of an entry as far as sets from outside are concerned."""
    event = entry.event
    membership = event.content.get("membership")
    return Glimpse(
        event_id=event.event_id,
        room_version=event.rules.version,
        type=event.type,
        state_key=event.state_key,
        membership=membership if isinstance(membership, str) else None,
        verdict=entry.verdict,
        out_of_band=entry.out_of_band,
    )
