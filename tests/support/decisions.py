"""What a decisions topic says, as its readers understand it."""

from __future__ import annotations

from dataclasses import replace

from annals.eventlog.api import Log
from annals.eventlog.reading import records_between
from annals.projectors.rooms.decided import Assembler, decided_steps
from annals.schemas.facts.decisions import Decision


def decisions_that_count(log: Log, generation: str = "g1") -> list[Decision]:
    """All steps that are not void, by partition, without their epochs."""
    found: list[Decision] = []
    topic = f"decisions.{generation}"
    for partition in range(log.partitions(topic)):
        records = records_between(log, topic, partition, 0)
        for steps, _ in decided_steps(records, Assembler(0, 0)):
            found += [replace(decision, epoch=0) for step in steps for decision in step.decisions]
    return found
