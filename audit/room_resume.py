"""Letting a halted room go on: the fact on the room's own partition, and what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from annals.audit.errors import NotOfThisRoom
from annals.audit.operating import Operating
from annals.eventlog.api import Log
from annals.eventlog.partition import partition_of
from annals.eventlog.reading import records_between
from annals.projectors.left_out import RESUME
from annals.projectors.rooms.decided import MARK_KEY, Assembler, DecidedStep
from annals.schemas.codec import decode
from annals.schemas.errors import Undecodable
from annals.schemas.facts.operations import AdminCommanded
from annals.schemas.facts.rooms import RoomFact, RoomResumed
from annals.schemas.topics import decisions_topic

TOPIC = "rooms"


def resume_room(operating: Operating, room_id: str, skip: Sequence[int], actor: str, reason: str) -> tuple[int, int]:
    """Append the operator's command and the room's `RoomResumed`; (partition, offset) of the latter.

    Raises NotOfThisRoom, with nothing written.
    """
    log = operating.log
    partition = partition_of(room_id, log.partitions(TOPIC))
    for offset in skip:
        _check_offset(log, room_id, partition, offset)
    arguments = json.dumps({"room_id": room_id, "skip": sorted(skip)}).encode()
    command = AdminCommanded(operating.envelope(is_cause=True), actor, RESUME, arguments, reason)
    resumed = RoomResumed(operating.envelope(), room_id, actor, reason, tuple(sorted(skip)))
    (_, (_, partition, offset)) = operating.append([command, resumed])
    return partition, offset


def _check_offset(log: Log, room_id: str, partition: int, offset: int) -> None:
    records = log.read(TOPIC, partition, offset, max_records=1) if offset < log.end(TOPIC, partition) else []
    if records and records[0].offset == offset and records[0].value is not None:
        try:
            fact = decode(records[0].value)
        except Undecodable:
            fact = None
        if isinstance(fact, RoomFact) and fact.room_id == room_id:
            return
    raise NotOfThisRoom(f"no fact of {room_id} at {TOPIC}[{partition}] {offset}")


def wait_for_step(
    log: Log, generation: str, partition: int, offset: int, decisions_from: int, timeout_s: float
) -> DecidedStep | None:
    """The step of the fact at `offset`, as a running server decides it; None when that takes too long.

    `decisions_from` is the end of the decisions topic before the fact was appended. Once it is read here it is decided
    for ever, in the tables or not yet.
    """
    topic = decisions_topic(generation).name
    assembler = Assembler(offset, _marked_before(log, topic, partition, decisions_from))
    deadline_s = time.monotonic() + timeout_s
    tail = log.tail({(topic, partition): decisions_from})
    try:
        while (left_s := deadline_s - time.monotonic()) > 0:
            for record in tail.poll(left_s):
                step = assembler.feed(record.offset, record.value) if record.value is not None else None
                if step is not None and step.offset == offset:
                    return step
        return None
    finally:
        tail.close()


def _marked_before(log: Log, topic: str, partition: int, end: int) -> int:
    """The epoch in force at `end`."""
    records = records_between(log, topic, partition, 0, end)
    marks = (decode(record.value) for record in records if record.key == MARK_KEY and record.value is not None)
    return max((mark.epoch for mark in marks), default=0)
