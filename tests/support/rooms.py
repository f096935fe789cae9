"""Rooms for tests of the machine: events built by name, facts fed one by one, tables kept in dictionaries.

`MemoryTables` answers needs from nothing but the decisions that it was given, as the database does; so a driver that
forgets its view before every fact ("cold") proves that decisions are complete.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from annals.matrix.auth_events import POWER_LEVELS
from annals.matrix.canonical_json import canonical_bytes, loads
from annals.matrix.events import Event
from annals.matrix.record_parts import merge
from annals.matrix.room_versions import ROOM_VERSIONS, RoomRules
from annals.matrix.signing import SigningKey
from annals.rooms.auth_chains import Place, lies_in
from annals.rooms.auth_paths import highest, lowest
from annals.rooms.heads import Intent, Signer, build_on, fact_of
from annals.rooms.machine import Decided, decide, halt
from annals.rooms.needs import (
    CITING_CHAINS_FOLLOWED,
    CITING_CHAINS_LEVELS,
    NEWEST_CHAIN,
    ChainsBelow,
    CitingChain,
    FirstOfKey,
    Glimpse,
    Loaded,
    Needs,
    Places,
    StoredEvent,
    StoredHeader,
    StoredState,
)
from annals.rooms.out_of_band import OUT_OF_BAND
from annals.rooms.state import Lacking
from annals.rooms.trimming import trim
from annals.rooms.view import RoomView, learn, unknown_room
from annals.schemas.codec import decode, encode
from annals.schemas.facts import decisions as d
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.rooms import PduCreated, PduFact, PduFetched, PduReceived, RoomFact
from annals.schemas.position import pack
from tests.support.memory_rows import OUR_SERVER, MemoryRows

KEY = SigningKey("ed25519:test", b"\1" * 32)
SERVER = OUR_SERVER
SIGNER = Signer(SERVER, KEY)
Page = tuple[str, int, int, int, int]


def envelope(key: str | None = None) -> Envelope:
    """An envelope that is the same in every run."""
    return Envelope(1, "test", "1", None, key)


def received(event: Event) -> PduReceived:
    """The event as a fact of another server's push."""
    return PduReceived(**_parts(event), origin="peer", via="t", signatures=(), content_hash_ok=True)


def fetched(event: Event, purpose: str) -> PduFetched:
    """The event as the answer to a question of ours."""
    return PduFetched(**_parts(event), origin="peer", via="f", purpose=purpose, signatures=(), content_hash_ok=True)


def created(event: Event, key: str | None = None) -> PduCreated:
    """The event as one of ours."""
    return fact_of(event, envelope(key))


def _parts(event: Event) -> dict[str, Any]:
    fact = fact_of(event, envelope())
    return {
        "envelope": fact.envelope,
        "room_id": fact.room_id,
        "event_id": fact.event_id,
        "room_version": fact.room_version,
        "skeleton": fact.skeleton,
        "body": fact.body,
    }


class MemoryTables(MemoryRows):
    """What the tables of one room would hold, asked as the database is."""

    def _citing_chains(self, chain_id: int, sequence: int, before: int) -> tuple[CitingChain, ...]:
        """Short pages, so that the tests turn some."""
        found: dict[int, CitingChain] = {}
        for placed in sorted(self.places.values(), key=lambda p: (p.place.chain_id, p.place.sequence), reverse=True):
            links = [link for link in placed.links if link.chain_id == chain_id and link.sequence >= sequence]
            if links and placed.place.chain_id < before:
                found[placed.place.chain_id] = CitingChain(placed.place.chain_id, placed.place.sequence, *placed.key)
        return tuple(found.values())[:4]

    def _between(self, tops: Places, bottoms: Places) -> frozenset[str]:
        """By the definition: what has one of `bottoms` in its auth chain, of the auth chains of `tops`."""
        at = {(p.place.chain_id, p.place.sequence): p.event_id for p in self.places.values()}
        ends = {at[place] for place in bottoms}
        below = {event_id for place in tops for event_id in self._led_to(at[place])}
        return frozenset(event_id for event_id in below if ends & self._led_to(event_id))

    def _below(self, tops: Places) -> ChainsBelow:
        at = {(p.place.chain_id, p.place.sequence): p.event_id for p in self.places.values()}
        below = [self.places[name] for name in {name for place in tops for name in self._led_to(at[place])}]
        links = [(p.place.chain_id, p.place.sequence, link.chain_id, link.sequence) for p in below for link in p.links]
        return ChainsBelow(tuple(links), {p.place.chain_id: (p.key[0], str(p.key[1])) for p in below})

    def _in_ranges(self, ranges: Sequence[tuple[int, int, int]]) -> frozenset[str]:
        named = {Place(chain, number) for chain, low, high in ranges for number in range(low, high + 1)}
        return frozenset(p.event_id for p in self.places.values() if p.place in named)

    def _led_to(self, event_id: str) -> set[str]:
        found: set[str] = set()
        todo = [event_id]
        while todo:
            current = todo.pop()
            if current not in found:
                found.add(current)
                todo += self.citing[current].cited
        return found

    def _mainline(self, chain_id: int) -> Iterator[tuple[int, Place | None]]:
        chain: int | None = chain_id
        while chain is not None:
            first = next(p for p in self.places.values() if p.place == Place(chain, 1))
            cited = [self.places[name] for name in self.citing[first.event_id].cited]
            below = next((p.place for p in cited if p.key == POWER_LEVELS), None)
            yield chain, below
            chain = None if below is None else below.chain_id

    # Answers to needs

    def load(self, needs: Needs) -> Loaded:
        """Every need, answered."""
        chains = {i for _, event_id in needs.auth_chains for i in self._auth_chain(event_id)}
        ids = {event_id for _, event_id in needs.events} | chains
        loaded = Loaded(
            rooms={room: self._header() for room in needs.rooms},
            events={(self.room_id, event_id): self._event(event_id) for event_id in ids},
            states={(room, s): self._state(s) for room, s in needs.states},
            state_keys={(r, s, t, k): self.state_map(s).get((t, k)) for r, s, t, k in needs.state_keys},
            whole_states={(room, s): self.state_map(s) for room, s in needs.whole_states},
            changes={(room, s): _delta(self.states[s]) for room, s in needs.changes},
            keys={(room, key): self._first(key) for room, key in needs.keys},
            facts={(room, offset): self.facts[offset] for room, offset in needs.facts},
            auth_places={(r, e): self.places[e].place if e in self.places else None for r, e in needs.auth_places},
            sets={(room, name): tuple(self.sets.get(name, ())) for room, name in needs.sets},
            glimpses={(room, event_id): self._glimpse(event_id) for room, event_id in needs.glimpses},
            residents={(room, users): self._is_resident(users) for room, users in needs.residents},
            servers={(room, server, users): self._is_in(server, users) for room, server, users in needs.servers},
            memberships={(room, name): self.local.get(name) for room, name in needs.memberships},
            citing_chains={(r, c, s, b, i): self._citing_chains(c, s, b) for r, c, s, b, i in needs.citing_chains},
            between={(r, tops, bottoms): self._between(tops, bottoms) for r, tops, bottoms in needs.between},
            below={(r, tops): self._below(tops) for r, tops in needs.below},
            ranges={(r, named): self._in_ranges(named) for r, named in needs.ranges},
            mainlines={(r, chain): below for r, named in needs.mainlines for chain, below in self._mainline(named)},
        )
        return self._with_what_comes_along(needs, self._with_pages_above(needs, loaded))

    def _with_pages_above(self, needs: Needs, loaded: Loaded) -> Loaded:
        pages = dict(loaded.citing_chains)
        level = list(needs.citing_chains)
        for _ in range(CITING_CHAINS_LEVELS):
            level = [above for page in level for above in self._asked_next(page, pages[page])]
            pages |= {page: self._citing_chains(*page[1:4]) for page in level}
        return replace(loaded, citing_chains=pages)

    def _asked_next(self, page: Page, chains: Sequence[CitingChain]) -> list[Page]:
        room_id, chain_id, sequence, _, state_id = page
        if not chains or sum(self._is_held(chain, state_id) for chain in chains) > CITING_CHAINS_FOLLOWED:
            return []
        above = [(c.chain_id, c.sequence, NEWEST_CHAIN) for c in chains[:CITING_CHAINS_FOLLOWED]]
        return [(room_id, *named, state_id) for named in [*above, (chain_id, sequence, chains[-1].chain_id)]]

    def _is_held(self, chain: CitingChain, state_id: int) -> bool:
        held = self.state_map(state_id).get((chain.type, chain.state_key or ""))
        placed = self.places.get(held) if held else None
        return placed is not None and lies_in(placed.place, {chain.chain_id: chain.sequence})

    def _with_what_comes_along(self, needs: Needs, loaded: Loaded) -> Loaded:
        """What annals.projectors.rooms.load adds to the answers."""
        more = Needs()
        passed = {event_id for found in loaded.between.values() for event_id in found}
        if passed:
            more = Needs(
                events=frozenset((self.room_id, e) for e in passed.union(*(self.citing[e].cited for e in passed)))
            )
            more |= Needs(auth_places=frozenset((self.room_id, e) for _, e in more.events))
        if needs.auth_chains:
            more |= Needs(auth_places=frozenset((self.room_id, e) for _, e in loaded.events if e in self.places))
        keys = {
            (s, (chain.type, chain.state_key))
            for (*_, s), found in loaded.citing_chains.items()
            for chain in found
            if chain.state_key is not None
        }
        for _, state_ids in needs.resolutions:
            more |= self._read_by_resolution(state_ids)
            chains = {e for _, event_id in more.events for e in self._auth_chain(event_id)}
            more |= Needs(events=frozenset((self.room_id, event_id) for event_id in chains))
            more |= Needs(auth_places=frozenset((self.room_id, e) for e in chains if e in self.places))
            more |= self._paths_read(state_ids, chains)
            cited = {key for event_id in chains if (key := self._key_of(event_id))}
            keys |= {(state_id, key) for state_id in state_ids for key in cited}
        held = {(s, key): self.state_map(s).get(key) for s, key in keys}
        more |= Needs(
            state_keys=frozenset((self.room_id, s, *key) for s, key in held),
            auth_places=frozenset((self.room_id, e) for e in held.values() if e in self.places),
        )
        return _merged(loaded, self.load(more)) if more else loaded

    def _read_by_resolution(self, state_ids: tuple[int, ...]) -> Needs:
        room = self.room_id
        lines: list[set[int]] = [{s, *(base for base, _ in self._state(s).chain)} for s in state_ids]
        own = lines[0].union(*lines) - lines[0].intersection(*lines)
        keys = {key for s in own for key in _delta(self.states[s])}
        maps = [self.state_map(s) for s in state_ids]
        events = {m[key] for key in keys for m in maps if key in m and len({m.get(key) for m in maps}) > 1}
        if events and self.room:
            events.add(self.room["create"])
        return Needs(
            states=frozenset((room, s) for s in state_ids),
            changes=frozenset((room, s) for s in own),
            state_keys=frozenset((room, s, *key) for s in state_ids for key in keys),
            events=frozenset((room, event_id) for event_id in events),
        )

    def _paths_read(self, state_ids: tuple[int, ...], loaded: set[str]) -> Needs:
        """What stands between the events in which these states differ (version 12), and where mainlines go on."""
        placed = [self.places[e] for e in loaded if e in self.places]
        chains = frozenset((self.room_id, p.place.chain_id) for p in placed if p.key == POWER_LEVELS)
        maps = [self.state_map(s) for s in state_ids]
        differing = {m[key] for m in maps for key in m if len({other.get(key) for other in maps}) > 1}
        if self.room.get("version") != "12" or not differing or not differing <= self.places.keys():
            return Needs(mainlines=chains)
        places = [self.places[e].place for e in differing]
        return Needs(mainlines=chains, between=frozenset([(self.room_id, highest(places), lowest(places))]))

    def _key_of(self, event_id: str) -> tuple[str, str] | None:
        stored = self._event(event_id)
        assert stored
        pdu = _parse(stored.pdu)
        return (pdu["type"], pdu["state_key"]) if "state_key" in pdu else None

    def _auth_chain(self, event_id: str) -> set[str]:
        found: set[str] = set()
        todo = [event_id]
        while todo:
            current = todo.pop()
            if current not in found and current in self.events:
                found.add(current)
                stored = self._event(current)
                assert stored
                todo.extend(_parse(stored.pdu)["auth_events"])
        return found

    def _event(self, event_id: str) -> StoredEvent | None:
        row = self.events.get(event_id)
        if row is None:
            return None
        fact, v = row["fact"], row["verdict"]
        return StoredEvent(
            room_id=self.room_id,
            event_id=event_id,
            room_version=fact.room_version,
            pdu=_whole(fact),
            verdict=v.verdict,
            outlier=v.outlier,
            backfilled=v.backfilled,
            provisional=v.provisional,
            source=v.source,
            position=v.position,
            state_before=v.state_before,
            state_after=v.state_after,
            idempotency_key=row["key"],
            redacted_by=row["redacted_by"],
            missing=v.missing,
            out_of_band=v.reason == OUT_OF_BAND,
        )

    def _glimpse(self, event_id: str) -> Glimpse | None:
        stored = self._event(event_id)
        if stored is None:
            return None
        pdu = _parse(stored.pdu)
        membership = pdu["content"].get("membership") if pdu["type"] == "m.room.member" else None
        return Glimpse(
            event_id,
            stored.room_version,
            pdu["type"],
            pdu.get("state_key"),
            membership if isinstance(membership, str) else None,
            stored.verdict,
            stored.out_of_band,
        )

    def _is_resident(self, besides: tuple[str, ...]) -> bool:
        return any(membership == "join" and name not in besides for name, membership in self.local.items())

    def _is_in(self, server: str, besides: tuple[str, ...]) -> bool:
        of_server = [
            event_id
            for (event_type, name), event_id in self.current.items()
            if event_type == "m.room.member" and name.endswith(f":{server}") and name not in besides
        ]
        glimpses = [self._glimpse(event_id) for event_id in of_server]
        return any(glimpse is not None and glimpse.membership == "join" for glimpse in glimpses)

    def _header(self) -> StoredHeader | None:
        rows = self.events.items()
        parked = [e for i, row in rows if row["verdict"].verdict == "parked" and (e := self._event(i))]
        waits = self.halted_at is not None or self.handshakes or self.queued
        if not self.room and not parked and not waits and not self.wanted:
            return None
        return StoredHeader(
            room_id=self.room_id,
            room_version=self.room.get("version", ""),
            create_event_id=self.room.get("create", ""),
            extremities=tuple(sorted(self.extremities, key=lambda i: (self.extremities[i], i))),
            current_state_id=self.room.get("current"),
            min_depth=self.room.get("min_depth"),
            halted_at=self.halted_at,
            waiting=tuple(self.waiting),
            parked=tuple(sorted(parked, key=lambda e: e.source)),
            wanted=frozenset(self.wanted),
            pending_redactions={k: tuple(v) for k, v in self.pending_redactions.items() if v},
            handshakes=tuple(self.handshakes.values()),
            queued=tuple(sorted(self.queued)),
            entered_after=frozenset(
                missing
                for row in self.events.values()
                if row["verdict"].verdict == "accepted"
                for missing in row["verdict"].missing
            ),
        )

    def _state(self, state_id: int) -> StoredState:
        made, chain = self.states[state_id], []
        base = made.base_id
        while base is not None:
            chain.append((base, self.states[base].depth))
            base = self.states[base].base_id
        return StoredState(state_id, made.depth, made.element_sum, tuple(chain))

    def state_map(self, state_id: int | None) -> dict[tuple[str, str], str]:
        """The whole map of a stored state, through its chain of bases."""
        if not state_id:
            return {}
        made = self.states[state_id]
        entries = self.state_map(made.base_id)
        for key, event_id in _delta(made).items():
            if event_id is None:
                entries.pop(key, None)
            else:
                entries[key] = event_id
        return entries

    def _first(self, key: str) -> FirstOfKey | None:
        for event_id, row in self.events.items():
            if row["key"] == key:
                return FirstOfKey(row["verdict"].source, event_id)
        return None


def _merged(first: Loaded, second: Loaded) -> Loaded:
    return Loaded(**{f.name: {**getattr(first, f.name), **getattr(second, f.name)} for f in fields(Loaded)})


def _whole(fact: PduFact) -> bytes:
    assert isinstance(fact.body, bytes)
    return _merge(fact.skeleton, fact.body)


# A room that is loaded for each fact anew asks for its events hundreds of times.
@functools.lru_cache(maxsize=2048)
def _merge(skeleton: bytes, body: bytes) -> bytes:
    return canonical_bytes(merge(_parse(skeleton), _parse(body)))


@functools.lru_cache(maxsize=2048)
def _parse(text: bytes) -> dict[str, Any]:
    """Read once, and changed by nobody."""
    parsed = loads(text)
    assert isinstance(parsed, dict)
    return parsed


def _delta(made: d.StateMade) -> Mapping[tuple[str, str], str | None]:
    return {(entry.type, entry.state_key): entry.event_id for entry in made.delta}


@dataclass
class Driver:
    """Feeds facts to the machine as a projector does, one room, one partition."""

    room_id: str
    cold: bool = False
    tables: MemoryTables = field(init=False)
    view: RoomView = field(init=False)
    offset: int = 0
    decided: list[tuple[d.Decision, ...]] = field(default_factory=list)
    asked: list[Needs] = field(default_factory=list)
    """The needs of the last step, a round each."""

    def __post_init__(self) -> None:
        self.tables = MemoryTables(self.room_id)
        self.view = unknown_room(self.room_id)

    def feed(self, *facts: RoomFact) -> tuple[d.Decision, ...]:
        """Decide the facts at the next offsets; the decisions of the last one."""
        decisions: tuple[d.Decision, ...] = ()
        for fact in facts:
            if self.cold:
                self.forget()
            decisions = self._step(fact)
        return decisions

    def _step(self, fact: RoomFact) -> tuple[d.Decision, ...]:
        self.asked = []
        while isinstance(outcome := decide(self.view, fact, self.offset, epoch=1), Needs):
            learned = learn(self.view, self.tables.load(outcome))
            # It may ask again: of a state that came meanwhile nothing is known but its frame. Each answer must help,
            # and for the same need twice in a row a projector halts the room.
            assert outcome not in self.asked or learned != self.view, f"asked twice, learned nothing: {outcome}"
            assert self.asked[-1:] != [outcome], f"asked twice in a row: {outcome}"
            self.asked.append(outcome)
            self.view = learned
        self.view = trim(outcome.view)
        return self._keep(fact, outcome)

    def _keep(self, fact: RoomFact, outcome: Decided) -> tuple[d.Decision, ...]:
        # The tables learn what the log would tell them.
        logged = tuple(decode(encode(decision)) for decision in outcome.decisions)
        assert logged == outcome.decisions
        assert [decision.position for decision in logged] == [pack(self.offset, n) for n in range(len(logged))]
        assert [decision.last_of_step for decision in logged] == [n + 1 == len(logged) for n in range(len(logged))]
        self.tables.apply(self.offset, fact, logged)
        self.decided.append(logged)
        self.offset += 1
        return logged

    def encoded(self) -> list[list[bytes]]:
        """Every step's decisions as records."""
        return [[encode(decision) for decision in step] for step in self.decided]

    def forget(self) -> None:
        """Throw the view away: all that is known is in the tables."""
        self.view = unknown_room(self.room_id)

    def halt(self, fact: RoomFact, error: str) -> None:
        """What the loop does where the machine raises."""
        self.view = learn(self.view, self.tables.load(Needs(rooms=frozenset([self.room_id]))))
        outcome = halt(self.view, fact, self.offset, 1, error)
        self.view = outcome.view
        self._keep(fact, outcome)

    def build(self, intent: Intent, rules: RoomRules, now_ms: int = 1) -> Event:
        """An event on the room's head."""
        for _ in range(60):
            try:
                return build_on(self.view, intent, rules, SIGNER, now_ms)
            except Lacking as lacking:
                self.view = learn(self.view, self.tables.load(lacking.needs))
        raise AssertionError("needs without end")

    def send(self, sender: str, event_type: str, content: dict[str, Any], state_key: str | None = None) -> Event:
        """Build an event of a user on the head, and feed it."""
        rules = self.view.known_header().rules
        assert rules
        event = self.build(Intent(sender, event_type, content, state_key), rules)
        self.feed(created(event))
        return event

    def verdict(self, event_id: str) -> str:
        """The last verdict on an event."""
        verdict: d.Verdict = self.tables.events[event_id]["verdict"]
        return verdict.verdict


def user(name: str) -> str:
    """@name:test"""
    return f"@{name}:{SERVER}"


def new_room(version: str = "12", creator: str = "alice", join_rule: str = "public", cold: bool = False) -> Driver:
    """A room with its creator in it, power levels and a join rule."""
    rules = ROOM_VERSIONS[version]
    room_id = "" if rules.room_id_is_create_hash else "!room:test"
    content: dict[str, Any] = {"room_version": version}
    if rules.creator_in_content:
        content["creator"] = user(creator)
    scratch = Driver(room_id)
    scratch.view = learn(scratch.view, Loaded(rooms={room_id: None}))
    create = scratch.build(Intent(user(creator), "m.room.create", content, ""), rules)
    driver = Driver(create.room_id, cold)
    driver.feed(created(create))
    driver.send(user(creator), "m.room.member", {"membership": "join"}, user(creator))
    users = {} if rules.creators_have_infinite_power else {user(creator): 100}
    driver.send(user(creator), "m.room.power_levels", {"users": users}, "")
    driver.send(user(creator), "m.room.join_rules", {"join_rule": join_rule}, "")
    return driver
