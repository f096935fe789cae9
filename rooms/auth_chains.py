"""The chain cover of a room's auth graph: where an event stands in it, and which events stand above another.

Events of one key that cite each other follow each other in a *chain*; what they cite of other chains is a *link*:

    power levels   P1 <- P2 <- P3          place of P3: chain P1, sequence 3
                    ^           ^
    ann's member   A1           A2         links: A1 -> (P1, 1), A2 -> (P1, 3); A2 follows A1

So what stands above (chain, sequence) is the rest of its chain, and the chains that link to it or to that rest. A place
is given once, when the event is decided; it depends on the events decided before and on nothing else. The id of a chain
is the stream position of its first event.

All state events have one, also those that nobody may cite: whatever is in a state, what it cites is below that state.
Rejected events have none: nothing accepted cites them. An event has a place only if all that it cites have one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from annals.matrix.quick import quick


@quick
@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands: the `sequence`-th event (from 1) of a chain."""

    chain_id: int
    sequence: int


@quick
@dataclass(frozen=True, slots=True)
class Citing:
    """An event as the index sees it. `extended`: another event follows it in its chain.

    `cited` are the ids of its auth events (in version 12 the create event too), `position` its stream position.
    """

    event_id: str
    key: tuple[str, str | None]
    cited: tuple[str, ...]
    position: int
    place: Place | None = None
    extended: bool = False


@quick
@dataclass(frozen=True, slots=True)
class Placed:
    """A place that was given, and the link targets that go with it."""

    event_id: str
    key: tuple[str, str | None]
    place: Place
    links: tuple[Place, ...]


class ChainCover:
    """Gives places, in the order in which events are decided. `known` has what these cite, as far as it has a place."""

    def __init__(self, known: Iterable[Citing]) -> None:
        self._events = {event.event_id: event for event in known}

    def adopt(self) -> list[Placed]:
        """Places for all that is known and has none: the events of a room from before there was an index."""
        without = sorted((e.position, e.event_id) for e in self._events.values() if e.place is None)
        return [placed for _, event_id in without for placed in self._from_below_on(event_id)]

    def add(self, event: Citing) -> list[Placed]:
        """The place of an event; empty where it has one, or where something that it cites has none.

        Then it is as if it had not been named: it may be named again, when that has one.
        """
        is_new = event.event_id not in self._events
        # All that it cites has a place already, nearly always.
        if is_new and event.place is None and (of_it := self._place(event)) is not None:
            return [of_it]
        self._events.setdefault(event.event_id, event)
        placed = self._from_below_on(event.event_id)
        if is_new and self._events[event.event_id].place is None:
            del self._events[event.event_id]
        return placed

    def _from_below_on(self, event_id: str) -> list[Placed]:
        given = [self._place(self._events[unplaced]) for unplaced in self._from_below(event_id)]
        return [placed for placed in given if placed is not None]

    def _from_below(self, event_id: str) -> Iterator[str]:
        """The events without a place that this one leads to, itself last. Ends where auth events form a circle, too."""
        entered: set[str] = set()
        stack = [(event_id, False)]
        while stack:
            current, is_done = stack.pop()
            event = self._events.get(current)
            if is_done:
                yield current
            elif event is not None and event.place is None and current not in entered:
                entered.add(current)
                stack.append((current, True))
                stack.extend((other, False) for other in sorted(event.cited, reverse=True))

    def _place(self, event: Citing) -> Placed | None:
        """The place of an event of which everything is there that it cites; else nothing changes."""
        below: list[Citing] = []
        for event_id in dict.fromkeys(event.cited):
            other = self._events.get(event_id)
            if other is None or other.place is None:
                return None
            below.append(other)
        before = next((other for other in below if other.key == event.key and not other.extended), None)
        place = Place(event.position, 1)
        if before is not None and before.place is not None:
            place = Place(before.place.chain_id, before.place.sequence + 1)
            self._events[before.event_id] = _placed(before, before.place, extended=True)
        # What one cited event cites itself is reached by way of that one; of a chain, the younger leads to the older.
        led_to = {other for event_below in below for other in event_below.cited}
        links: dict[int, int] = {}
        for other in below:
            if other.place is not None and other is not before and other.event_id not in led_to:
                links[other.place.chain_id] = max(other.place.sequence, links.get(other.place.chain_id, 0))
        self._events[event.event_id] = _placed(event, place, extended=False)
        return Placed(event.event_id, event.key, place, tuple(Place(*link) for link in sorted(links.items())))


def _placed(event: Citing, place: Place, *, extended: bool) -> Citing:
    # Written out, as it stands on the hot path: dataclasses.replace takes several times as long.
    return Citing(event.event_id, event.key, event.cited, event.position, place, extended)


Region = Mapping[int, int]
"""Chains, each from a sequence number upwards."""


def lies_in(place: Place, region: Region) -> bool:
    """Whether a place is within a region."""
    lowest = region.get(place.chain_id)
    return lowest is not None and place.sequence >= lowest
