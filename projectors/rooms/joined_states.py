"""Reading what states that are to be resolved differ in: one query, whatever their number.

Their lines of bases meet somewhere. What lies before that differs, and is read; of the rest only the keys that differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from annals.database.text import restore, storable

StateKey = tuple[str, str]
Changes = dict[StateKey, "str | None"]

#: The lines of each resolution (r), what differs in the parts that are not common, and what the common part has for it.
JOINED = """
WITH RECURSIVE wanted AS MATERIALIZED (
    SELECT * FROM unnest(%s::int[], %s::text[], %s::bigint[]) AS w(r, room_id, state_id)
), line(r, room_id, wanted, state_id, base_id, depth, element_sum, n) AS (
    SELECT w.r, s.room_id, s.state_id, s.state_id, s.base_id, s.depth, s.element_sum, 0
    FROM wanted w JOIN states s ON s.room_id = w.room_id AND s.state_id = w.state_id
    UNION ALL
    SELECT l.r, l.room_id, l.wanted, s.state_id, s.base_id, s.depth, NULL::bytea, l.n + 1
    FROM line l JOIN states s ON s.room_id = l.room_id AND s.state_id = l.base_id
), met AS MATERIALIZED (
    SELECT l.r, l.room_id, l.state_id, min(l.depth) AS depth,
        count(*) = (SELECT count(*) FROM wanted w WHERE w.r = l.r) AS common
    FROM line l GROUP BY l.r, l.room_id, l.state_id
), changed AS MATERIALIZED (
    SELECT m.r, m.room_id, m.state_id, d.type, d.state_key, d.event_id
    FROM met m JOIN state_deltas d ON d.room_id = m.room_id AND d.state_id = m.state_id WHERE NOT m.common
), agreed AS (
    SELECT DISTINCT ON (k.r, k.type, k.state_key) k.r, k.type, k.state_key, d.event_id
    FROM (SELECT DISTINCT r, room_id, type, state_key FROM changed) AS k
    JOIN met m ON m.r = k.r AND m.common
    JOIN state_deltas d ON d.room_id = m.room_id AND d.state_id = m.state_id AND d.type = k.type
        AND d.state_key = k.state_key
    ORDER BY k.r, k.type, k.state_key, m.depth DESC
)
SELECT r, wanted, state_id, depth, element_sum, NULL AS type, NULL AS state_key, NULL AS event_id, n
FROM line
UNION ALL SELECT r, NULL, state_id, NULL, NULL, type, state_key, event_id, NULL FROM changed
UNION ALL SELECT r, NULL, NULL, NULL, NULL, type, state_key, event_id, NULL FROM agreed"""


@dataclass(slots=True)
class JoinedStates:
    """What was read of one resolution. `lines`: of each state (id, depth, sum), itself first, then its bases."""

    room_id: str
    state_ids: tuple[int, ...]
    lines: dict[int, list[tuple[int, int, bytes]]] = field(default_factory=lambda: defaultdict(list))
    changes: dict[int, Changes] = field(default_factory=lambda: defaultdict(dict))
    agreed: Changes = field(default_factory=dict)

    def own(self, state_id: int) -> Iterator[int]:
        """The states of a line, from its end to where it meets all others."""
        common = set.intersection(*({link[0] for link in line} for line in self.lines.values()))
        return (link[0] for link in self.lines[state_id] if link[0] not in common)

    def held(self) -> dict[int, Changes]:
        """Of each state what it has for all keys that changed in one of them."""
        keys = {key for changes in self.changes.values() for key in changes}
        return {state_id: self._held(state_id, keys) for state_id in self.state_ids}

    def _held(self, state_id: int, keys: set[StateKey]) -> Changes:
        found: Changes = {}
        for own in self.own(state_id):
            for key, event_id in self.changes[own].items():
                found.setdefault(key, event_id)
        return {key: found[key] if key in found else self.agreed.get(key) for key in keys}


def parameters(wanted: Sequence[tuple[str, tuple[int, ...]]]) -> list[list[Any]]:
    """Those of `JOINED`."""
    rows = [(r, storable(room_id), s) for r, (room_id, state_ids) in enumerate(wanted) for s in state_ids]
    return [list(column) for column in zip(*rows, strict=True)]


def joined_states(
    wanted: Sequence[tuple[str, tuple[int, ...]]], rows: Collection[tuple[Any, ...]]
) -> list[JoinedStates]:
    """What the rows of `JOINED` say, in the order of `wanted`."""
    found = [JoinedStates(room_id, state_ids) for room_id, state_ids in wanted]
    for r, line_of, state_id, depth, element_sum, event_type, state_key, event_id, _ in sorted(
        rows, key=lambda row: row[8] or 0
    ):
        joined = found[r]
        if line_of is not None:
            joined.lines[line_of].append((state_id, depth, element_sum))
            continue
        key = restore(event_type), restore(state_key)
        changes = joined.agreed if state_id is None else joined.changes[state_id]
        changes[key] = event_id and restore(event_id)
    return found
