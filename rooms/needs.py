"""What the room machine lacks to decide, and the answers to it.

`decide` never reads: where the view of a room lacks something, it returns `Needs`. The loop gathers the needs of a
whole batch, loads them set-wise, teaches the views (`annals.rooms.view.learn`) and calls again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from annals.rooms.auth_chains import Citing, Place
from annals.schemas.facts.rooms import RoomFact

Link = tuple[int, int, int, int]
"""In the chain cover: (chain_id, sequence, to chain_id, to sequence)."""

Range = tuple[int, int, int]
"""Of a chain: (chain_id, lowest sequence, highest)."""

Places = tuple[tuple[int, int], ...]
"""Places in the chain cover, of each chain one: (chain_id, sequence), by chain."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What is lacked, by kind; all keyed by room, so that the needs of many rooms can be loaded at once."""

    #: headers of rooms: what is known of a room as a whole (or that it is not known)
    rooms: frozenset[str] = frozenset()
    #: (room_id, event_id): the event with its verdict, or that it is not here
    events: frozenset[tuple[str, str]] = frozenset()
    #: (room_id, event_id): the event and all that its auth_events lead to
    auth_chains: frozenset[tuple[str, str]] = frozenset()
    #: (room_id, state_id): depth, sum and the chain of bases of a stored state
    states: frozenset[tuple[str, int]] = frozenset()
    #: (room_id, state_id, type, state_key): which event holds the key in that state, if any
    state_keys: frozenset[tuple[str, int, str, str]] = frozenset()
    #: (room_id, state_id): the whole map
    whole_states: frozenset[tuple[str, int]] = frozenset()
    #: (room_id, state_id): the keys in which a stored state differs from its base
    changes: frozenset[tuple[str, int]] = frozenset()
    #: (room_id, idempotency key): the first fact of the room that has it, unless refused
    keys: frozenset[tuple[str, str]] = frozenset()
    #: (room_id, offset): the fact of this partition that waits there
    facts: frozenset[tuple[str, int]] = frozenset()
    #: (room_id, event_id): its place in the chain cover, if it has one
    auth_places: frozenset[tuple[str, str]] = frozenset()
    #: (room_id, chain_id, sequence, before, state_id): a page of the chains that link to this chain from that sequence
    #: on. With it come what the stored state has for the keys of these chains, and the places of that.
    citing_chains: frozenset[tuple[str, int, int, int, int]] = frozenset()
    #: (room_id, state ids): what a resolution of these stored states reads, as far as that can be told; the answers are
    #: those to the other kinds (states, changes, state_keys, events, auth_places)
    resolutions: frozenset[tuple[str, tuple[int, ...]]] = frozenset()
    #: (room_id, tops, bottoms): the ids of what stands in the chain cover below one of `tops` and above one of
    #: `bottoms`, these included. With it come these events, if they are few, and what they cite.
    between: frozenset[tuple[str, Places, Places]] = frozenset()
    #: (room_id, tops): the chains that are below these places
    below: frozenset[tuple[str, Places]] = frozenset()
    #: (room_id, ranges): the ids of the events in these ranges of chains
    ranges: frozenset[tuple[str, tuple[Range, ...]]] = frozenset()
    #: (room_id, chain_id) of power levels: the place of what its first event cites of power levels. With it come those
    #: of the chains below.
    mainlines: frozenset[tuple[str, int]] = frozenset()
    #: (room_id, event_id): it, if it has a place in the chain cover; of a room without one all that shall have
    cited: frozenset[tuple[str, str]] = frozenset()
    #: (room_id, set_id): the ids that chunks of a set from outside named with the role state
    sets: frozenset[tuple[str, str]] = frozenset()
    #: (room_id, event_id): as much of an event as its place in such a set needs, or that it is not here
    glimpses: frozenset[tuple[str, str]] = frozenset()
    #: (room_id, users): whether a user of ours besides these is in the room
    residents: frozenset[tuple[str, tuple[str, ...]]] = frozenset()
    #: (room_id, server_name, users): whether a user of that server besides these is in the room
    servers: frozenset[tuple[str, str, tuple[str, ...]]] = frozenset()
    #: (room_id, user_id): the membership of a user of ours
    memberships: frozenset[tuple[str, str]] = frozenset()

    def __or__(self, other: Needs) -> Needs:
        return Needs(*(getattr(self, f.name) | getattr(other, f.name) for f in fields(Needs)))

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self))


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as the tables hold it. `pdu` is the event's JSON as on the wire."""

    room_id: str
    event_id: str
    room_version: str
    pdu: bytes
    verdict: str
    outlier: bool
    backfilled: bool
    provisional: bool
    source: int
    position: int
    state_before: int | None
    state_after: int | None
    idempotency_key: str | None = None
    redacted_by: str | None = None
    missing: tuple[str, ...] = ()
    out_of_band: bool = False


@dataclass(frozen=True, slots=True)
class Glimpse:
    """An event as far as sets from outside are concerned: thousands of them are looked at at once."""

    event_id: str
    room_version: str
    type: str
    state_key: str | None
    membership: str | None
    verdict: str
    out_of_band: bool


@dataclass(frozen=True, slots=True)
class OpenHandshake:
    """A handshake that has no outcome yet (annals.schemas.facts.decisions.HandshakeOpened)."""

    handshake_id: str
    kind: str
    user_id: str
    attached_to: str | None
    holds_queue: bool


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """What is known of a room as a whole; `parked` are its parked events, by source.

    `handshakes` are those that are open, oldest first; `queued` the offsets of facts that wait for one of them;
    `entered_after` what the join by which we came into the room follows, none of which was here then.
    """

    room_id: str
    room_version: str
    create_event_id: str
    extremities: tuple[str, ...]
    current_state_id: int | None
    min_depth: int | None
    halted_at: int | None
    waiting: tuple[int, ...]
    parked: tuple[StoredEvent, ...]
    wanted: frozenset[str]
    pending_redactions: Mapping[str, tuple[str, ...]]
    handshakes: tuple[OpenHandshake, ...] = ()
    queued: tuple[int, ...] = ()
    entered_after: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StoredState:
    """A stored state without its entries. `chain`: (state_id, depth) of its bases, nearest first."""

    state_id: int
    depth: int
    element_sum: bytes
    chain: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class FirstOfKey:
    """The fact that has an idempotency key: its offset, and the event that it made."""

    source: int
    event_id: str


#: How many chains a page of `Needs.citing_chains` has at most; an empty one is the last.
CITING_CHAINS_PAGE = 64
#: Where no more than so many of a page hold what the state has (all states may not agree on it), the next page and the
#: first ones of so many of its chains come with it, and so on.
CITING_CHAINS_FOLLOWED, CITING_CHAINS_LEVELS = 4, 3
#: Above all chains: `before` of a first page.
NEWEST_CHAIN = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class CitingChain:
    """A chain that links to another: its lowest sequence number that does, and the key of its events."""

    chain_id: int
    sequence: int
    type: str
    state_key: str | None


@dataclass(frozen=True, slots=True)
class ChainsBelow:
    """What is below some places: the links of the chains there, up to where they are below, and the chains' keys."""

    links: tuple[Link, ...]
    keys: Mapping[int, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The answers to a `Needs`: every need has an entry, None (or an empty value) where there is nothing.

    `cited` has only what is here, and more than was named.
    """

    rooms: Mapping[str, StoredHeader | None] = field(default_factory=dict)
    events: Mapping[tuple[str, str], StoredEvent | None] = field(default_factory=dict)
    states: Mapping[tuple[str, int], StoredState] = field(default_factory=dict)
    state_keys: Mapping[tuple[str, int, str, str], str | None] = field(default_factory=dict)
    whole_states: Mapping[tuple[str, int], Mapping[tuple[str, str], str]] = field(default_factory=dict)
    changes: Mapping[tuple[str, int], Mapping[tuple[str, str], str | None]] = field(default_factory=dict)
    keys: Mapping[tuple[str, str], FirstOfKey | None] = field(default_factory=dict)
    facts: Mapping[tuple[str, int], RoomFact] = field(default_factory=dict)
    auth_places: Mapping[tuple[str, str], Place | None] = field(default_factory=dict)
    citing_chains: Mapping[tuple[str, int, int, int, int], Sequence[CitingChain]] = field(default_factory=dict)
    between: Mapping[tuple[str, Places, Places], frozenset[str]] = field(default_factory=dict)
    below: Mapping[tuple[str, Places], ChainsBelow] = field(default_factory=dict)
    ranges: Mapping[tuple[str, tuple[Range, ...]], frozenset[str]] = field(default_factory=dict)
    mainlines: Mapping[tuple[str, int], Place | None] = field(default_factory=dict)
    cited: Mapping[tuple[str, str], Citing] = field(default_factory=dict)
    sets: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    glimpses: Mapping[tuple[str, str], Glimpse | None] = field(default_factory=dict)
    residents: Mapping[tuple[str, tuple[str, ...]], bool] = field(default_factory=dict)
    servers: Mapping[tuple[str, str, tuple[str, ...]], bool] = field(default_factory=dict)
    memberships: Mapping[tuple[str, str], str | None] = field(default_factory=dict)
