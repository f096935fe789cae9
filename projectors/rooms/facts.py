"""Facts of one partition of `rooms`, by offset: for folds of what was decided, and for what waits or wakes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from annals.eventlog.api import Log
from annals.schemas.codec import decode, decoder_passing
from annals.schemas.errors import Undecodable
from annals.schemas.facts.rooms import PduFact, RoomFact

# As many as the embedded log reads by one statement.
_AHEAD_RECORDS = 250
_KEPT_FACTS = 320


#: What no fold reads of a PDU's record is not made of it.
decode_for_fold = decoder_passing(
    PduFact,
    frozenset(("recorded_at_ms", "writer", "writer_version", "cause", "origin", "via", "purpose", "signatures")),
)


class NoFact(Exception):
    """A decision names an offset at which no fact of a room stands."""


class Facts:
    """Reads single facts; ahead, where they are asked for in order."""

    def __init__(self, log: Log, topic: str, partition: int, decode: Callable[[bytes], Any] = decode) -> None:
        self._log, self._topic, self._partition = log, topic, partition
        self._decode = decode
        self._kept: OrderedDict[int, RoomFact] = OrderedDict()
        self._next = -1

    def at(self, offset: int) -> RoomFact:
        """The fact at `offset`; raises NoFact."""
        fact = self._kept.get(offset)
        if fact is None:
            self._read(offset)
            fact = self._kept.get(offset)
        if fact is None:
            raise NoFact(f"no fact at {self._topic}[{self._partition}] {offset}")
        return fact

    def _read(self, offset: int) -> None:
        in_order = offset >= self._next >= 0 and offset - self._next < _AHEAD_RECORDS
        count = _AHEAD_RECORDS if in_order else 1
        for record in self._log.read(self._topic, self._partition, offset, max_records=count):
            self._next = record.offset + 1
            if record.value is None:
                continue
            try:
                fact = self._decode(record.value)
            except Undecodable:
                continue  # a poisoned record in between; whoever asks for it is told that there is no fact
            if isinstance(fact, RoomFact):
                self._kept[record.offset] = fact
        while len(self._kept) > _KEPT_FACTS:
            self._kept.popitem(last=False)
