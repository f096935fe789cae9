"""What one run of filling knows: what it tried, what the room lacks, and who brought what waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from annals.ingest.fetchers.answers import Source
from annals.ingest.fetchers.origins import BACKFILL, MISSING_EVENTS, Brought
from annals.ingest.fetchers.room_gaps import RoomGaps, Waiting
from annals.ingest.verification import Verified

#: Events of a run that are fetched by their ids, as they may stand on what we have; and anchors.
SINGLES_PER_RUN = 200
ANCHORS_PER_RUN = 20
AUTH_PER_RUN = 40


@dataclass(slots=True)
class Run:
    """What was tried for a room in one run."""

    asked_missing: set[str] = field(default_factory=set)
    asked_auth: set[str] = field(default_factory=set)
    asked_single: set[str] = field(default_factory=set)
    singles: dict[str, Verified] = field(default_factory=dict)
    anchored: set[str] = field(default_factory=set)
    pulled: set[str] = field(default_factory=set)
    """Events that this run asked for and logged: where they had been pushed before, the log's first fact says so."""
    missing_rounds: Counter[Brought | None] = field(default_factory=Counter)
    """By who brought what waits: however many servers did, each is asked about its own."""
    unanswered: bool = False
    """To some question there was no answer of anybody, not even a refusal."""

    @property
    def asked(self) -> set[str]:
        """Events that servers were asked about."""
        return self.asked_missing | self.asked_auth | self.asked_single | self.anchored

    @property
    def auth_left(self) -> int:
        """Questions for auth events that may still be asked."""
        return AUTH_PER_RUN - len(self.asked_auth)

    @property
    def singles_left(self) -> int:
        """Events that may still be fetched by their ids."""
        return SINGLES_PER_RUN - len(self.asked_single)

    @property
    def anchors_left(self) -> int:
        """Anchors that may still be asked for."""
        return ANCHORS_PER_RUN - len(self.anchored)

    @property
    def is_spent(self) -> bool:
        """Whether there may be more to ask about than a run may ask."""
        return min(self.auth_left, self.singles_left, self.anchors_left) <= 0


@dataclass(frozen=True, slots=True)
class Look:
    """What the room lacks, with who brought those that wait."""

    us: str
    """Our server name: we are not asked."""
    gaps: RoomGaps
    brought: dict[str, Brought]
    servers: tuple[str, ...]

    def source(self, server: str, via: str) -> Source:
        """Where answers of a server to a question of this kind come from."""
        assert self.gaps.rules is not None
        return Source(self.gaps.room_id, self.gaps.rules, self.gaps.create_event_id, server, via)

    def purpose(self, run: Run, parked: Waiting) -> str | None:
        """What we pulled it for; None: it was pushed. An outlier of before says by its first fact what that was."""
        if parked.backfilled:
            return BACKFILL
        brought = self.brought.get(parked.event_id)
        if parked.event_id in run.pulled or (brought is not None and brought.purpose == MISSING_EVENTS):
            return MISSING_EVENTS
        return None

    def candidates(self, waiting: Iterable[Waiting]) -> list[str]:
        """Who brought them first, then other servers of the room."""
        origins = [self.brought[parked.event_id].origin for parked in waiting if parked.event_id in self.brought]
        return [server for server in dict.fromkeys((*origins, *self.servers)) if server != self.us]
