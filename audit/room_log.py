"""`annals log show ROOM`: the facts of a room and what was decided about them, in order, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from annals.audit.plain import plain, printable
from annals.eventlog.api import Log, Record
from annals.eventlog.partition import partition_of
from annals.eventlog.reading import records_between
from annals.matrix.canonical_json import loads
from annals.projectors.rooms.decided import Assembler, DecidedStep, decided_steps
from annals.schemas.codec import decode
from annals.schemas.errors import Undecodable
from annals.schemas.facts.decisions import Decision, Verdict
from annals.schemas.facts.rooms import PduFact, RoomFact
from annals.schemas.position import offset_of, ordinal_of
from annals.schemas.topics import decisions_topic

TOPIC = "rooms"
_HEADER = frozenset(field.name for field in fields(Decision))


@dataclass(frozen=True, slots=True)
class Line:
    """One fact (`at` is partition/offset) or one decision (`at` is offset.ordinal) of a room.

    `what` is the fact's name, a verdict or the decision's name; `detail` is ready to be printed; `data` is all of it.
    """

    kind: str
    at: str
    what: str
    detail: str
    data: Mapping[str, Any]


def room_log(log: Log, room_id: str, generation: str) -> Iterator[Line]:
    """Each fact of the room, followed by the decisions of its step."""
    partition = partition_of(room_id, log.partitions(TOPIC))
    steps = _steps(log, generation, partition)
    step = next(steps, None)
    key = room_id.encode()
    for record in records_between(log, TOPIC, partition, 0):
        if record.key != key:
            continue
        yield _fact_line(record)
        while step is not None and step.offset < record.offset:
            step = next(steps, None)
        if step is not None and step.offset == record.offset:
            for decision in step.decisions:
                yield _decision_line(decision)


def _steps(log: Log, generation: str, partition: int) -> Iterator[DecidedStep]:
    """The steps that count: what lost its partition, or came twice, is left out."""
    records = records_between(log, decisions_topic(generation).name, partition, 0)
    for steps, _ in decided_steps(records, Assembler(0, 0)):
        yield from steps


def _fact_line(record: Record) -> Line:
    at = f"{record.partition}/{record.offset}"
    data: dict[str, Any] = {"kind": "fact", "partition": record.partition, "offset": record.offset}
    try:
        fact = decode(record.value) if record.value is not None else None
    except Undecodable as error:
        return Line("fact", at, "undecodable", printable(str(error)), {**data, "error": str(error)})
    if not isinstance(fact, RoomFact):
        return Line("fact", at, "filler" if fact is None else type(fact).__name__, "", data)
    when = datetime.fromtimestamp(fact.envelope.recorded_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    name = type(fact).__name__
    return Line("fact", at, name, printable(f"{when}  {_said(fact)}"), {**data, "fact": name, **plain(fact)})


def _said(fact: RoomFact) -> str:
    if isinstance(fact, PduFact):
        pdu = loads(fact.skeleton)
        key = f" [{pdu['state_key']}]" if "state_key" in pdu else ""
        return f"{pdu.get('type')}{key} by {pdu.get('sender')}  {fact.event_id}"
    own = [field.name for field in fields(fact) if field.name not in ("envelope", "room_id")]
    return "  ".join(f"{name}={plain(getattr(fact, name))!r}" for name in own)


def _decision_line(decision: Decision) -> Line:
    at = f"{offset_of(decision.position)}.{ordinal_of(decision.position)}"
    name = type(decision).__name__
    data = {"kind": "decision", "at": at, "decision": name, **plain(decision)}
    if isinstance(decision, Verdict):
        return Line("decision", at, decision.verdict, printable(_verdict_said(decision)), data)
    own = [field.name for field in fields(decision) if field.name not in _HEADER]
    said = [f"{field}={plain(getattr(decision, field))!r}" for field in own if getattr(decision, field) is not None]
    return Line("decision", at, name, printable("  ".join([*said, f"about {decision.source}"])), data)


def _verdict_said(decision: Verdict) -> str:
    said = [decision.event_id]
    said += [f"by rule {decision.rule}"] if decision.rule else []
    said += [decision.reason] if decision.reason else []
    said += [flag for flag in ("outlier", "backfilled", "provisional") if getattr(decision, flag)]
    said += [f"waits for {len(decision.missing)} events"] if decision.missing else []
    said += [f"state {change.type} [{change.state_key}]" for change in decision.current_delta[:3]]
    more = len(decision.current_delta) - 3
    said += [f"and {more} more"] if more > 0 else []
    said += [f"redacts {applied.event_id}" for applied in decision.redactions]
    return ", ".join(said)
