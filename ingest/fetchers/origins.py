"""Who brought a parked event, and how: as its fact on the log says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from annals.eventlog.api import Record
from annals.ingest.pdu_facts import PUSHED
from annals.schemas.codec import decode
from annals.schemas.facts.rooms import PduFetched, PduReceived

TOPIC = "rooms"
BACKFILL, MISSING_EVENTS, AUTH, STATE = "backfill", "missing_events", "auth", "state"
#: `via` of what we asked for, but for a handshake's answers, and the purpose of what came.
_PURPOSES = {
    "backfill": BACKFILL,
    "get_missing_events": MISSING_EVENTS,
    "event": MISSING_EVENTS,
    "event_auth": AUTH,
    # The answer's set is closed without it: what comes later is for others to cite.
    "state_ids": STATE,
}

Read = Callable[[str, int, int, int], Sequence[Record]]
"""(topic, partition, offset, how many): records of the log."""


@dataclass(frozen=True, slots=True)
class Brought:
    """By the first fact of an event. `purpose` None: another server pushed it. Else we asked for it ourselves
    (PduFetched.purpose)."""

    origin: str
    purpose: str | None


def purpose_of(via: str) -> str | None:
    """The purpose of a PDU that came by `via` and could not be taken at once; None: another server pushed it.

    Those who push choose what stands behind these words, never the words.
    """
    if via.startswith(PUSHED):
        return None
    # By the id of a handshake: left out of the state that a join was answered by.
    return _PURPOSES.get(via, STATE)


class Origins:
    """Looks facts up on the log. Blocks, so in a thread."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def of(self, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Brought]:
        """By (partition, offset) of topic `rooms`: who brought what stands there; events of ours are not in it."""
        return await asyncio.to_thread(self._of, list(places))

    def _of(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Brought]:
        found = {}
        for partition, offset in places:
            for record in self._read(TOPIC, partition, offset, 1):
                if record.offset == offset and record.value is not None:
                    fact = decode(record.value)
                    if isinstance(fact, PduFetched):
                        found[partition, offset] = Brought(fact.origin, fact.purpose)
                    elif isinstance(fact, PduReceived):
                        found[partition, offset] = Brought(fact.origin, None)
        return found
