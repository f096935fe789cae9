"""What is loaded for the room machine, by room, as it fills; and how it is asked of the tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from annals.database.text import storable
from annals.rooms.auth_chains import Citing, Place
from annals.rooms.needs import (
    ChainsBelow,
    CitingChain,
    FirstOfKey,
    Glimpse,
    Loaded,
    Places,
    Range,
    StoredEvent,
    StoredHeader,
    StoredState,
)
from annals.schemas.facts.rooms import RoomFact

StateKey = tuple[str, str]


class Reads(Protocol):
    """A snapshot, or a transaction: what the tables say at one moment."""

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query answers."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A `Loaded` of one room, as it fills."""

    rooms: dict[str, StoredHeader | None] = field(default_factory=dict)
    events: dict[tuple[str, str], StoredEvent | None] = field(default_factory=dict)
    states: dict[tuple[str, int], StoredState] = field(default_factory=dict)
    state_keys: dict[tuple[str, int, str, str], str | None] = field(default_factory=dict)
    whole_states: dict[tuple[str, int], dict[StateKey, str]] = field(default_factory=dict)
    changes: dict[tuple[str, int], dict[StateKey, str | None]] = field(default_factory=dict)
    keys: dict[tuple[str, str], FirstOfKey | None] = field(default_factory=dict)
    facts: dict[tuple[str, int], RoomFact] = field(default_factory=dict)
    auth_places: dict[tuple[str, str], Place | None] = field(default_factory=dict)
    citing_chains: dict[tuple[str, int, int, int, int], list[CitingChain]] = field(default_factory=dict)
    between: dict[tuple[str, Places, Places], frozenset[str]] = field(default_factory=dict)
    below: dict[tuple[str, Places], ChainsBelow] = field(default_factory=dict)
    ranges: dict[tuple[str, tuple[Range, ...]], frozenset[str]] = field(default_factory=dict)
    mainlines: dict[tuple[str, int], Place | None] = field(default_factory=dict)
    cited: dict[tuple[str, str], Citing] = field(default_factory=dict)
    sets: dict[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    glimpses: dict[tuple[str, str], Glimpse | None] = field(default_factory=dict)
    residents: dict[tuple[str, tuple[str, ...]], bool] = field(default_factory=dict)
    servers: dict[tuple[str, str, tuple[str, ...]], bool] = field(default_factory=dict)
    memberships: dict[tuple[str, str], str | None] = field(default_factory=dict)

    def loaded(self) -> Loaded:
        return Loaded(**{name: getattr(self, name) for name in self.__slots__})


def columns_of(wanted: Collection[tuple[Any, ...]]) -> list[list[Any]]:
    """Tuples as one list a column, in an order that does not change from run to run."""
    return [list(column) for column in zip(*sorted(wanted), strict=True)]


# Keys come back as they are stored: answers are given under the names that were asked for.
def names_of(texts: Iterable[str]) -> dict[str, str]:
    return {storable(text): text for text in texts}
