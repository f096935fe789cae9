"""Facts of rooms that an operator left out (`annals room resume --skip`).

Where the room stood still they were left out when it went on, and its decisions say so. Who decides everything anew may
never come to stand there: so it is told beforehand.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping

from annals.eventlog.api import Log, Record
from annals.eventlog.partition import partition_of
from annals.projectors.poison import OPERATIONS
from annals.schemas.codec import decode
from annals.schemas.errors import Undecodable
from annals.schemas.facts.operations import AdminCommanded

TOPIC = "rooms"
RESUME = "room resume"
"""The command as it stands in AdminCommanded; its arguments: a JSON object with `room_id` and `skip`, a list of
offsets."""

LeftOut = Mapping[int, frozenset[int]]
"""Offsets by partition of `rooms`."""


def left_out(log: Log) -> LeftOut:
    """All that operators have left out until now. Reads `operations` whole."""
    partitions, found = log.partitions(TOPIC), defaultdict[int, set[int]](set)
    position = 0
    while records := log.read(*OPERATIONS, position):
        for command in map(_command_of, records):
            if command is not None and command.command == RESUME:
                arguments = json.loads(command.arguments)
                found[partition_of(arguments["room_id"], partitions)].update(arguments["skip"])
        position = records[-1].offset + 1
    return {partition: frozenset(offsets) for partition, offsets in found.items()}


def _command_of(record: Record) -> AdminCommanded | None:
    try:
        fact = decode(record.value) if record.value is not None else None
    except Undecodable:
        return None  # it stops its own partition, where it is reported
    return fact if isinstance(fact, AdminCommanded) else None
