"""`annals log show ROOM`: the facts of a room and what was decided about them, in order, for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from annals.eventlog.api import Log, Record
from annals.eventlog.partition import partition_of
from annals.matrix.canonical_json import loads
from annals.schemas.codec import decode
from annals.schemas.errors import Undecodable
from annals.schemas.facts.decisions import Decision, DecisionPart, Mark, Verdict
from annals.schemas.facts.rooms import PduFact, RoomFact
from annals.schemas.parts import Joiner
from annals.schemas.position import offset_of, ordinal_of

TOPIC = "rooms"
_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Line:
    """One fact (`offset`) or one decision (`position` offset/ordinal) of a room, ready to be printed."""

    kind: str
    at: str
    what: str
    detail: str


def room_log(log: Log, room_id: str, generation: str) -> Iterator[Line]:
    """Each fact of the room, followed by the decisions of its step."""
    partition = partition_of(room_id, log.partitions(TOPIC))
    decisions = _decisions(log, room_id, generation, partition)
    pending = next(decisions, None)
    for record in _records(log, TOPIC, partition):
        fact = _decoded(record)
        if not isinstance(fact, RoomFact) or fact.room_id != room_id:
            continue
        yield _fact_line(record, fact)
        while pending is not None and offset_of(pending.position) <= record.offset:
            yield _decision_line(pending)
            pending = next(decisions, None)


def _records(log: Log, topic: str, partition: int) -> Iterator[Record]:
    offset, end = 0, log.end(topic, partition)
    while offset < end:
        batch = log.read(topic, partition, offset, _BATCH)
        if not batch:
            return
        yield from batch
        offset = batch[-1].offset + 1


def _decoded(record: Record) -> Any:
    try:
        return decode(record.value) if record.value is not None else None
    except Undecodable:
        return None


def _decisions(log: Log, room_id: str, generation: str, partition: int) -> Iterator[Decision]:
    """The decisions that count: of the epoch in force, each position once."""
    epoch, seen, joiner = 0, -1, Joiner()
    for record in _records(log, f"decisions.{generation}", partition):
        made = _decoded(record)
        if isinstance(made, Mark):
            epoch = max(epoch, made.epoch)
            joiner.reset()
        if isinstance(made, DecisionPart):
            whole = joiner.add(made)
            made = decode(whole) if whole is not None else None
        if isinstance(made, Decision) and made.epoch >= epoch and made.position > seen:
            seen = made.position
            if made.room_id == room_id:
                yield made


def _fact_line(record: Record, fact: RoomFact) -> Line:
    when = datetime.fromtimestamp(fact.envelope.recorded_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return Line("fact", f"{record.partition}/{record.offset}", type(fact).__name__, f"{when}  {_said(fact)}")


def _said(fact: RoomFact) -> str:
    if isinstance(fact, PduFact):
        pdu = loads(fact.skeleton)
        key = f" [{pdu['state_key']}]" if "state_key" in pdu else ""
        return f"{pdu.get('type')}{key} by {pdu.get('sender')}  {fact.event_id}"
    return "  ".join(f"{name}={getattr(fact, name)!r}" for name in _fields(fact))


def _fields(fact: RoomFact) -> list[str]:
    return [name for name in type(fact).__dataclass_fields__ if name not in ("envelope", "room_id")]


def _decision_line(decision: Decision) -> Line:
    at = f"{offset_of(decision.position)}.{ordinal_of(decision.position)}"
    if not isinstance(decision, Verdict):
        return Line("decision", at, type(decision).__name__, f"about {decision.source}")
    said = [decision.verdict + (f" by rule {decision.rule}" if decision.rule else "")]
    said += [decision.reason] if decision.reason else []
    said += ["outlier"] if decision.outlier else []
    said += [f"state {change.type} [{change.state_key}] is now this" for change in decision.current_delta[:3]]
    said += [f"redacts {applied.event_id}" for applied in decision.redactions]
    return Line("decision", at, decision.event_id, ", ".join(said))
