"""A room that grows at random, and what we say to every question that it raises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from annals.matrix.auth_events import CREATE, auth_types_for
from annals.matrix.auth_rules import Rejection, allowed, check_auth_events, check_signers
from annals.matrix.events import Event, StateKey, parse_event
from annals.matrix.room_versions import ROOM_VERSIONS, EventIdFormat
from annals.matrix.state_resolution import resolve
from tests.differential.wishes import USERS, Wish, Wishes

StateIds = dict[StateKey, str]


class GrownRoom:
    """`size` tries at an event, on forks, with stale or wrong auth events; `questions` and our `answers` to them."""

    def __init__(self, rng: Random, version: str, size: int) -> None:
        self.rng, self.rules = rng, ROOM_VERSIONS[version]
        self.events: dict[str, Event] = {}
        self.refused: set[str] = set()
        self._awkward: set[str] = set()
        self.questions: list[list[Any]] = []
        self.answers: list[Any] = []
        self.rules_that_spoke: Counter[str] = Counter()
        self._now_ms = 1_000
        self._begin(version)
        for _ in range(size):
            self._try_one()
        for _ in range(max(6, size // 6)):
            self._ask_for_resolution(self._states_that_never_were())

    # EventSource

    def get(self, event_id: str) -> Event:
        return self.events[event_id]

    def rejected(self, event_id: str) -> bool:
        return event_id in self.refused

    def case(self) -> dict[str, Any]:
        """The room and its questions, for the judge."""
        pdus = [event.pdu for event in self.events.values()]
        return {
            "ask": "rooms",
            "version": self.rules.version,
            "events": pdus,
            "rejected": sorted(self.refused),
            "questions": self.questions,
        }

    def _begin(self, version: str) -> None:
        rng = self.rng
        creator = rng.choice(USERS)
        content: dict[str, Any] = {"room_version": version}
        if self.rules.creator_in_content:
            content["creator"] = creator if rng.random() < 0.95 else rng.choice(USERS)
        if self.rules.creators_have_infinite_power and rng.random() < 0.5:
            content["additional_creators"] = rng.sample(USERS, rng.randint(0, 2))
        if rng.random() < 0.05:
            content["m.federate"] = rng.choice([True, False, "x", None])
        self._room_id = None if self.rules.room_id_is_create_hash else "!room:" + creator.partition(":")[2]
        self._odd = rng.random() < 0.4
        self._wishes = Wishes(rng, self.rules, creator, content.get("additional_creators", []), self._odd)
        create = self._event(Wish("m.room.create", creator, "", content), [], [])
        self._room_id, self._create_id = create.room_id, create.event_id
        self._after: dict[str, StateIds] = {create.event_id: {create.key: create.event_id}}
        self._heads = [create.event_id]
        for wish in self._wishes.beginning():
            self._judge(wish, self._heads, self._after[self._heads[0]], stale=False)

    def _try_one(self) -> None:
        prev = self._choose_prev()
        sets = [self._after[event_id] for event_id in prev]
        state = self._ask_for_resolution(sets) if len(sets) > 1 else sets[0]
        self._judge(self._wishes.next({key: self.events[i] for key, i in state.items()}), prev, state, stale=True)

    def _choose_prev(self) -> list[str]:
        rng = self.rng
        if rng.random() < 0.35:
            return [rng.choice(list(self._after)[-12:] if rng.random() < 0.8 else list(self._after))]
        return sorted(rng.sample(self._heads, rng.randint(1, min(3, len(self._heads)))))

    def _judge(self, wish: Wish, prev: Sequence[str], state: StateIds, *, stale: bool) -> None:
        event = self._event(wish, prev, self._choose_cited(wish, state, stale))
        cited = [self.events[event_id] for event_id in event.auth_events]
        signed = check_signers(event) or check_auth_events(event, [(e, self.rejected(e.event_id)) for e in cited])
        self._ask(["signed", event.event_id], signed)
        if not self.rules.create_cited_in_auth_events:
            cited.append(self.events[self._create_id])
        own = {other.key: other for other in cited if other.is_state}
        by_own = self._ask_allowed(event, own.values())
        by_state = self._ask_allowed(event, [self.events[event_id] for event_id in state.values()])
        if signed or by_own or by_state:
            self.refused.add(event.event_id)
            if self._is_awkward(event, cited):
                self._awkward.add(event.event_id)
            return
        self._after[event.event_id] = state | ({event.key: event.event_id} if event.is_state else {})
        kept = [head for head in self._heads if head not in prev or self.rng.random() < 0.25]
        self._heads = [*kept, event.event_id]

    def _is_awkward(self, event: Event, cited: Sequence[Event]) -> bool:
        """Whether Synapse may fall over a refused event: odd, or citing what no server cites, or a create too few."""
        creates = sum(other.event_id == self._create_id for other in cited)
        well_formed = creates == 1 and all(other.is_state for other in cited)
        return self._odd or not well_formed or not self._awkward.isdisjoint(event.auth_events)

    def _choose_cited(self, wish: Wish, state: StateIds, stale: bool) -> list[str]:
        rng, chosen = self.rng, []
        for key in auth_types_for(wish.type, wish.sender, wish.state_key, wish.content, self.rules):
            event_id = state.get(key)
            if stale and rng.random() < 0.06:
                others = [e.event_id for e in self.events.values() if e.is_state and e.key == key]
                event_id = rng.choice(others) if others else None
            if event_id is not None and not (stale and rng.random() < 0.01):
                chosen.append(event_id)
        if stale and rng.random() < 0.02:
            chosen.append(rng.choice(list(self.events)))
        if rng.random() < 0.03:
            rng.shuffle(chosen)
        return chosen[:10]

    def _event(self, wish: Wish, prev: Sequence[str], cited: Sequence[str]) -> Event:
        rng, number = self.rng, len(self.events)
        self._now_ms += rng.choice([0, 1, 1, 5, -3])
        servers = {wish.sender.partition(":")[2]} if rng.random() < 0.99 else set()
        authoriser = wish.content.get("join_authorised_via_users_server")
        if isinstance(authoriser, str) and rng.random() < 0.85:
            servers.add(authoriser.partition(":")[2])
        depth = 1 + max((self.events[event_id].depth for event_id in prev), default=0)
        pdu: dict[str, Any] = {
            "type": wish.type,
            "sender": wish.sender,
            "content": wish.content,
            "depth": depth,
            "origin_server_ts": self._now_ms,
            "hashes": {"sha256": f"{number:043}"},
            "signatures": {},
            "prev_events": list(prev),
            "auth_events": list(cited),
        }
        if self._room_id is not None:
            pdu["room_id"] = self._room_id
        if wish.state_key is not None:
            pdu["state_key"] = wish.state_key
        if wish.type == "m.room.redaction" and not self.rules.redacts_in_content and rng.random() < 0.95:
            pdu["redacts"] = wish.content["redacts"]
        if self.rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
            servers |= self._choose_id(pdu, number)
        pdu["signatures"] = {server: {"ed25519:1": "s"} for server in sorted(servers)}
        event = parse_event(pdu, self.rules)
        self.events[event.event_id] = event
        return event

    def _choose_id(self, pdu: dict[str, Any], number: int) -> set[str]:
        """Versions 1 and 2: an id, mostly of the sender's server; who signs for it."""
        server = pdu["sender"].partition(":")[2] if self.rng.random() < 0.9 else self.rng.choice("abc")
        pdu["event_id"] = f"${self.rng.getrandbits(32):08x}{number}:{server}"
        for name in ("prev_events", "auth_events"):
            pdu[name] = [[event_id, {"sha256": "h"}] for event_id in pdu[name]]
        return {server} if self.rng.random() < 0.98 else set()

    def _states_that_never_were(self) -> list[StateIds]:
        """Real states, in part replaced by other events (refused ones too), or with a key missing.

        No awkward ones: refused events that Synapse falls over. Its tables never hold them.
        """
        rng = self.rng
        sets = [dict(rng.choice(list(self._after.values()))) for _ in range(rng.randint(2, 4))]
        for state in sets:
            for event_id in rng.choices(list(self.events), k=rng.choice([0, 0, 1, 2, 4])):
                event = self.events[event_id]
                refused_one = event_id in self.refused and rng.random() < 0.7
                if event.is_state and event_id not in self._awkward and not refused_one:
                    state[event.key] = event_id
            removable = sorted(key for key in state if key != CREATE)
            if removable and rng.random() < 0.2:
                del state[rng.choice(removable)]
        return sets

    def _ask_for_resolution(self, sets: Sequence[StateIds]) -> StateIds:
        resolved = resolve(self.rules, sets, self)
        self.questions.append(["resolve", [_entries(state) for state in sets]])
        self.answers.append(_entries(resolved))
        return resolved

    def _ask_allowed(self, event: Event, state: Iterable[Event]) -> Rejection | None:
        events = list(state)
        rejection = allowed(event, {other.key: other for other in events})
        self._ask(["allowed", event.event_id, [other.event_id for other in events]], rejection)
        return rejection

    def _ask(self, question: list[Any], rejection: Rejection | None) -> None:
        self.questions.append(question)
        self.answers.append(rejection is None)
        self.rules_that_spoke["allowed" if rejection is None else rejection.rule] += 1


def _entries(state: StateIds) -> list[list[str]]:
    return sorted([*key, event_id] for key, event_id in state.items())
