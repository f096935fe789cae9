"""Asking the chain cover: which events stand below what some states agree on. Nothing is walked; what is read is the
places of these events, and pages of the chains that link to theirs.

The search goes upwards from a candidate: its chain from it on, the chains that link there, and so on. Chains are of one
key, so that a chain has the event that the states agree on for that key, or none. What most events cite is found at
once; what few cite has few chains above it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from annals.matrix.events import StateKey
from annals.matrix.state_resolution import Run
from annals.rooms.auth_chains import Place, Region, lies_in
from annals.rooms.auth_difference import FarDifference
from annals.rooms.auth_paths import NotIndexed, between, cited_by, mainlines, places_of
from annals.rooms.needs import NEWEST_CHAIN, CitingChain, Needs
from annals.rooms.state import Lacking, RoomState, have_keys
from annals.rooms.view import Entry, RoomView

_ASKED_AHEAD, _ASKED_AHEAD_LEVELS = 16, 4


def is_indexed(view: RoomView) -> bool:
    """Whether the room's events have places: from its create event on, or none."""
    create = view.known_header().create_event_id
    return create is not None and (create in view.auth.fresh or view.place(create) is not None)


@dataclass(frozen=True, slots=True)
class Agreed:
    """What several states agree on: what one of them has for all keys but those in which they differ."""

    state: RoomState
    differing: AbstractSet[StateKey]

    def get(self, key: StateKey, /) -> str | None:
        """See annals.matrix.state_resolution.Unconflicted."""
        return None if key in self.differing else self.state.get(key)

    def have(self, keys: Iterable[StateKey], /) -> None:
        """Raises one Lacking for all that is not known."""
        have_keys([self.state], [key for key in keys if key not in self.differing])


@dataclass
class ChainIndex:
    """Reachability along auth events, for one resolution. Raises Lacking, and NotIndexed."""

    view: RoomView
    agreed: Agreed
    _fresh: list[tuple[Entry, tuple[str, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._fresh = [(entry, cited_by(entry)) for entry in self.view.auth.fresh.values()]

    def in_auth_chains(self, candidates: AbstractSet[str], heads: AbstractSet[str]) -> set[str]:
        """See annals.matrix.state_resolution.AuthChainIndex."""
        found: set[str] = set()
        needs = Needs()
        for event_id in sorted(candidates):
            try:
                if _Search(self.view, self.agreed, heads, self._fresh).meets_head_above(event_id):
                    found.add(event_id)
            except Lacking as lacking:
                needs |= lacking.needs
        if needs:
            raise Lacking(needs | self._needs_of_next(candidates, heads))
        return found

    def difference(self, masks: Mapping[str, int], every_set: int) -> set[str]:
        """See annals.matrix.state_resolution.AuthChainIndex."""
        return FarDifference(self, masks, every_set).find()

    def is_agreed_above(self, place: Place, key: StateKey) -> bool:
        """Whether the states agree on the event at a place, which has this key, or on one that leads to it."""
        return _Search(self.view, self.agreed, frozenset(), self._fresh).meets_head_from(place, key)

    def between(self, event_ids: frozenset[str]) -> set[str]:
        """See annals.matrix.state_resolution.AuthChainIndex."""
        return between(self.view, event_ids)

    def mainlines(self, event_ids: AbstractSet[str]) -> dict[str, Iterator[Run]]:
        """See annals.matrix.state_resolution.AuthChainIndex."""
        return mainlines(self.view, event_ids)

    def _needs_of_next(self, candidates: AbstractSet[str], heads: AbstractSet[str]) -> Needs:
        """What is probably asked about next, if none of the candidates is found: what they cite. Saves rounds."""
        needs = Needs()
        for event_id in sorted(self._cited_by(candidates))[:_ASKED_AHEAD]:
            try:
                _Search(self.view, self.agreed, heads, self._fresh).meets_head_above(event_id)
            except Lacking as lacking:
                needs |= lacking.needs
            except NotIndexed:
                continue
        return needs

    def _cited_by(self, event_ids: AbstractSet[str]) -> set[str]:
        """As far as it is loaded with its places."""
        events, places = self.view.events, self.view.auth.places
        seen, level = set(event_ids), set(event_ids)
        for _ in range(_ASKED_AHEAD_LEVELS):
            entries = [entry for event_id in level if (entry := events.get(event_id)) is not None]
            level = {other for entry in entries for other in cited_by(entry) if other in places} - seen
            seen |= level
        return seen - event_ids


class _Search:
    """Upwards from one event until something is met that the states agree on, or one of `heads`."""

    def __init__(
        self,
        view: RoomView,
        agreed: Agreed,
        heads: AbstractSet[str],
        fresh: list[tuple[Entry, tuple[str, ...]]],
    ) -> None:
        self._view = view
        self._agreed = agreed
        self._heads = heads
        self._fresh = fresh

    def meets_head_above(self, event_id: str) -> bool:
        """Whether one stands above the event."""
        view = self._view
        place = view.place(event_id)
        if place is None and event_id not in view.auth.fresh:
            raise NotIndexed(event_id)
        region: dict[int, int] = {}
        if place is not None:
            entry = view.entry(event_id)
            key = entry.event.key if entry is not None and entry.event.is_state else None
            if self._finds(place, key, region):
                return True
        return self._finds_fresh(event_id, region)

    def meets_head_from(self, place: Place, key: StateKey) -> bool:
        """Whether one stands at a place, where an event of this key is, or above it."""
        region: dict[int, int] = {}
        return self._finds(place, key, region) or self._finds_fresh(None, region)

    def _finds(self, place: Place, key: StateKey | None, region: dict[int, int]) -> bool:
        """Whether a head of the index is there; if not, `region` is all that stands above."""
        heads = places_of(self._view, self._heads)
        if key is not None and self._holds_agreed([CitingChain(place.chain_id, place.sequence, *key)]):
            return True
        level = [place]
        while level:
            level = [p for p in level if not lies_in(p, region)]
            for current in level:
                region[current.chain_id] = min(current.sequence, region.get(current.chain_id, current.sequence))
            if any(lies_in(head, region) for head in heads.values()):
                return True
            chains = self._linking_to(level)
            if self._holds_agreed(chains):
                return True
            level = [Place(chain.chain_id, chain.sequence) for chain in chains]
        return False

    def _linking_to(self, places: Iterable[Place]) -> list[CitingChain]:
        """The chains that link to these, a page at a time for all of them; fewer where one is found to be enough."""
        found: list[CitingChain] = []
        before = dict.fromkeys(places, NEWEST_CHAIN)
        while before:
            known, state_id = self._view.auth.citing, self._agreed.state.stored_id
            wanted = {p: (p.chain_id, p.sequence, b, state_id) for p, b in before.items()}
            unknown = [page for page in wanted.values() if page not in known]
            if unknown:
                raise Lacking(Needs(citing_chains=frozenset((self._view.room_id, *page) for page in unknown)))
            pages = {p: known[page] for p, page in wanted.items()}
            here = [chain for page in pages.values() for chain in page]
            found += here
            if self._holds_agreed(here):
                return found
            before = {p: page[-1].chain_id for p, page in pages.items() if page}
        return found

    def _holds_agreed(self, chains: Iterable[CitingChain]) -> bool:
        """Whether one of these chains has, from its sequence on, the event that the states agree on for its key."""
        by_key = [((chain.type, chain.state_key), chain) for chain in chains if chain.state_key is not None]
        self._agreed.have(key for key, _ in by_key)
        agreed = [(event_id, chain) for key, chain in by_key if (event_id := self._agreed.get(key)) is not None]
        places = places_of(self._view, {event_id for event_id, _ in agreed})
        return any(
            event_id in places and lies_in(places[event_id], {chain.chain_id: chain.sequence})
            for event_id, chain in agreed
        )

    def _finds_fresh(self, event_id: str | None, region: Region) -> bool:
        """Whether a head that is not in the index yet stands above the event or above the region."""
        above = set() if event_id is None else {event_id}
        places = places_of(self._view, {other for _, cited in self._fresh for other in cited})
        left = self._fresh
        while True:
            rest: list[tuple[Entry, tuple[str, ...]]] = []
            for entry, cited in left:
                if not any(other in above or (other in places and lies_in(places[other], region)) for other in cited):
                    rest.append((entry, cited))
                elif self._is_head(entry):
                    return True
                else:
                    above.add(entry.event.event_id)
            if len(rest) == len(left):
                return False
            left = rest

    def _is_head(self, entry: Entry) -> bool:
        event_id = entry.event.event_id
        return event_id in self._heads or self._agreed.get(entry.event.key) == event_id
