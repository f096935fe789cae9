"""Where state resolution gets its events from, and how it asks for those that are not there yet."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Protocol

from annals.matrix.auth_events import POWER_LEVELS
from annals.matrix.events import Event, StateKey


class EventsNeeded(Exception):
    """These events must be loaded; then the same call is made again.

    `with_auth_chains`: the resolution is walking auth chains and will ask for theirs next, a step of the walk each
    time, so whoever can load these events together with their auth chains saves round trips.
    """

    def __init__(self, event_ids: Iterable[str], *, with_auth_chains: bool = False) -> None:
        self.event_ids = frozenset(event_ids)
        self.with_auth_chains = with_auth_chains
        super().__init__(f"{len(self.event_ids)} events")


class EventSource(Protocol):
    """The events of one room that the caller has at hand."""

    def get(self, event_id: str) -> Event:
        """The event; raises `EventsNeeded` for one that is to be loaded."""
        ...

    def rejected(self, event_id: str) -> bool:
        """Whether an event that `get` gives was rejected."""
        ...


class Unconflicted(Protocol):
    """What all states agree on."""

    def get(self, key: StateKey, /) -> str | None:
        """The event that every state has for `key`; None where there is none, or where they differ."""
        ...

    def have(self, keys: Iterable[StateKey], /) -> None:
        """These will be asked for: may raise what the caller of the resolution understands, for all at once."""
        ...


class WholeMap(dict[StateKey, str]):
    """What all states agree on, as a map."""

    def have(self, keys: Iterable[StateKey], /) -> None:
        """All of it is here."""


Run = tuple[Hashable, int]
"""A part of a mainline: (chain, sequence) are the events of that chain from that sequence number down to 1, each of
which cites the next. Of one chain, all mainlines go on alike below 1."""


class AuthChainIndex(Protocol):
    """Reachability along `auth_events`, for who has an index of it."""

    def in_auth_chains(self, candidates: AbstractSet[str], heads: AbstractSet[str]) -> AbstractSet[str]:
        """Those of `candidates` that are in the auth chain of one of `heads`, or of what all states agree on."""
        ...

    def difference(self, masks: Mapping[str, int], every_set: int) -> AbstractSet[str] | None:
        """Of states that stand far apart, the auth difference without conflicted events; None: it is to be walked.

        `masks`: by conflicted event which states have it, as a bit mask.
        """
        ...

    def between(self, event_ids: frozenset[str]) -> AbstractSet[str]:
        """Every event on a path of `auth_events` from one of these to another, ends included."""
        ...

    def mainlines(self, event_ids: AbstractSet[str]) -> Mapping[str, Iterable[Run]]:
        """By power levels event its mainline, newest part first."""
        ...


class Reader:
    """The source during one resolution: keeps what it read, and collects what is missing into one `EventsNeeded`."""

    def __init__(self, events: EventSource) -> None:
        self._source = events
        self.events: dict[str, Event] = {}
        """What was read, by id; to be looked at only."""
        self._cited: dict[str, tuple[str, ...]] = {}
        self._usable: dict[str, bool] = {}

    def get(self, event_id: str) -> Event:
        """One event."""
        try:
            return self.events[event_id]
        except KeyError:
            return self._keep(self._source.get(event_id), event_id)

    def _keep(self, event: Event, event_id: str) -> Event:
        self.events[event_id] = event
        cited = event.auth_events
        if not event.rules.create_cited_in_auth_events and event.type != "m.room.create":
            cited = (*cited, "$" + event.room_id[1:])
        self._cited[event_id] = cited
        return event

    def load(self, event_ids: Iterable[str], *, with_auth_chains: bool = False) -> None:
        """Have these events at hand, or raise one `EventsNeeded` with all that are missing."""
        read, get = self.events, self._source.get
        missing: set[str] = set()
        for event_id in [event_id for event_id in event_ids if event_id not in read]:
            try:
                self._keep(get(event_id), event_id)
            except EventsNeeded as needed:
                missing |= needed.event_ids
        if missing:
            raise EventsNeeded(missing, with_auth_chains=with_auth_chains)

    def cited(self, event_id: str) -> tuple[str, ...]:
        """The ids of the event's auth events. In version 12 the room id stands for the create event: it counts too."""
        try:
            return self._cited[event_id]
        except KeyError:
            self.get(event_id)
            return self._cited[event_id]

    def all_cited(self, event_ids: Iterable[str]) -> set[str]:
        """What these cite, who are read."""
        return set(chain.from_iterable(map(self._cited.__getitem__, event_ids)))

    def power_levels_of(self, event_id: str) -> str | None:
        """The first m.room.power_levels event that the event cites."""
        cited = self.cited(event_id)
        events = self.events
        try:
            for other in cited:
                event = events[other]
                if event.type == POWER_LEVELS[0] and event.state_key == POWER_LEVELS[1]:
                    return other
        except KeyError:
            self.load(cited, with_auth_chains=True)
            return self.power_levels_of(event_id)
        return None

    def usable(self, event_id: str) -> bool:
        """Whether others may be authorised by this event."""
        usable = self._usable.get(event_id)
        if usable is None:
            self.get(event_id)
            usable = self._usable[event_id] = not self._source.rejected(event_id)
        return usable
