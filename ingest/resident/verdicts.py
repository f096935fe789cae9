"""What was decided about an event that another server handed in."""

from __future__ import annotations

from dataclasses import dataclass

from annals.database.snapshot import Snapshot

_VERDICT_SQL = "SELECT verdict, outlier, reason FROM events WHERE room_id = %s AND event_id = %s"


@dataclass(frozen=True, slots=True)
class Standing:
    """The verdict of an event."""

    verdict: str
    outlier: bool
    reason: str | None

    @property
    def accepted(self) -> bool:
        """Whether it is in the room."""
        return self.verdict == "accepted"

    @property
    def final(self) -> bool:
        """Whether a repeat of the event would change nothing."""
        return self.verdict in ("accepted", "soft_failed", "rejected")


def verdict_of(snapshot: Snapshot, room_id: str, event_id: str) -> Standing | None:
    """The verdict, None where no such event came yet."""
    row = snapshot.one(_VERDICT_SQL, (room_id, event_id))
    return Standing(*row) if row else None
