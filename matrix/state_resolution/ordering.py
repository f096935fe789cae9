"""The two orders of state resolution: of power events, and of everything else along the mainline."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from heapq import heapify, heappop, heappush

from annals.matrix.auth_events import CREATE, JOIN_RULES, POWER_LEVELS
from annals.matrix.events import Event
from annals.matrix.power_levels import PowerLevels
from annals.matrix.state_resolution.source import AuthChainIndex, Reader, Run


def is_power_event(event: Event) -> bool:
    """Whether the event may take away somebody's ability to do something.

    "A power event is a state event with type m.room.power_levels or m.room.join_rules, or a state event with type
    m.room.member where the membership is leave or ban and the sender does not match the state_key."
    NOTSPEC: as in Synapse, of the first two only those with an empty state key, and the create event too.
    """
    if event.type == "m.room.member":
        return event.content.get("membership") in ("leave", "ban") and event.sender != event.state_key
    return (event.type, event.state_key) in (CREATE, POWER_LEVELS, JOIN_RULES)


def power_order(full_conflicted: frozenset[str], reader: Reader) -> list[str]:
    """The power events of the set, with what they need of it, in *reverse topological power ordering*.

    "Select the set X of all power events that appear in the full conflicted set. For each such power event P, enlarge X
    by adding the events in the auth chain of P which also belong to the full conflicted set." As in Synapse, the chain
    is followed only within the set.
    """
    cited: dict[str, frozenset[str]] = {}
    stack = [event_id for event_id in full_conflicted if is_power_event(reader.events[event_id])]
    while stack:
        event_id = stack.pop()
        if event_id not in cited:
            cited[event_id] = full_conflicted.intersection(reader.cited(event_id))
            stack.extend(cited[event_id])
    return _sorted_topologically(cited, reader)


def _sorted_topologically(cited: dict[str, frozenset[str]], reader: Reader) -> list[str]:
    """Kahn's algorithm: "at each step selecting, among all the candidate vertices, the smallest vertex"."""
    citing: dict[str, list[str]] = {event_id: [] for event_id in cited}
    for event_id, others in cited.items():
        for other in others:
            citing[other].append(event_id)
    waiting_for = {event_id: len(others) for event_id, others in cited.items()}
    ready = [_power_key(event_id, reader) for event_id, count in waiting_for.items() if count == 0]
    heapify(ready)
    ordered: list[str] = []
    while ready:
        event_id = heappop(ready)[-1]
        ordered.append(event_id)
        for above in citing[event_id]:
            waiting_for[above] -= 1
            if waiting_for[above] == 0:
                heappush(ready, _power_key(above, reader))
    return ordered


def _power_key(event_id: str, reader: Reader) -> tuple[int, int, str]:
    """Greater power of the sender first, by the event's own auth events; then earlier time; then smaller id."""
    event = reader.get(event_id)
    cited = [reader.get(other) for other in reader.cited(event_id)]
    by_key = {(other.type, other.state_key): other for other in cited}
    level = PowerLevels.of(by_key.get(CREATE), by_key.get(POWER_LEVELS)).user(event.sender)
    return -level, event.origin_server_ts, event_id


class Mainline:
    """The mainline of one power levels event: it, the one that it cites, and so on back.

    Read only as far as it is asked about: most events cite a recent one.
    """

    def __init__(self, newest: str | None, reader: Reader, index: AuthChainIndex) -> None:
        self._newest = newest
        self._reader = reader
        self._index = index
        self._line: Iterator[Run] = iter(())
        self._length = 0
        self._found: dict[Hashable, tuple[int, int]] = {}
        """By chain of the mainline: the position of its newest event there, and that one's sequence number."""
        self._beside: dict[Hashable, int | None] = {}
        """By chain that is not of the mainline: the position of what its events lead to."""

    def sort(self, event_ids: AbstractSet[str]) -> list[str]:
        """In *mainline ordering*: older parts of the mainline first, then earlier time, then smaller id."""
        # Without power levels in the state, no event has a position.
        levels = {event_id: self._reader.power_levels_of(event_id) for event_id in event_ids} if self._newest else {}
        cited = {event_id for event_id in levels.values() if event_id is not None}
        positions: dict[str | None, int | None] = {}
        if self._newest is not None and cited:
            lines = self._index.mainlines(cited | {self._newest})
            self._line = iter(self._index.mainlines({self._newest})[self._newest])
            positions.update((event_id, self._position(lines[event_id])) for event_id in cited)
        events = self._reader.events

        def key(event_id: str) -> tuple[bool, int, int, str]:
            position = positions.get(levels.get(event_id))
            # An event without one has position infinity, the greatest, and so comes first.
            return position is not None, -(position or 0), events[event_id].origin_server_ts, event_id

        return sorted(event_ids, key=key)

    def _position(self, line: Iterable[Run]) -> int | None:
        """ "Find the smallest index j >= 1 for which e_j belongs to the mainline of P." """
        beside: list[Hashable] = []
        position: int | None = None
        for chain, sequence in line:
            if chain in self._beside:
                position = self._beside[chain]
                break
            position = self._find(chain, sequence)
            if position is not None:
                break
            beside.append(chain)
        self._beside.update((chain, position) for chain in beside)
        return position

    def _find(self, chain: Hashable, sequence: int) -> int | None:
        while chain not in self._found:
            part = next(self._line, None)
            if part is None:
                return None
            self._found[part[0]] = self._length, part[1]
            self._length += part[1]
        position, newest = self._found[chain]
        # What follows the newest one of the mainline in its chain leads to that one first.
        return position + newest - min(sequence, newest)
