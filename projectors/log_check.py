"""The tables must continue this log. Consumers never reset offsets by themselves: what does not fit stops."""

from __future__ import annotations

from annals.eventlog.api import Log
from annals.projectors.errors import GroupPartition, LogWentBack
from annals.projectors.groups import GROUPS
from annals.projectors.position_rows import Row
from annals.projectors.work import hash_of
from annals.schemas.codec import decode
from annals.schemas.errors import Undecodable
from annals.schemas.facts.decisions import Mark
from annals.schemas.position import offset_of


def check_log(log: Log, key: GroupPartition, row: Row) -> None:
    """Its id, its end and the record before the position. Raises LogWentBack."""
    group, topic, partition = key
    offset = row.position.next_offset
    if row.log_id != log.log_id:
        raise LogWentBack(topic, partition, f"the tables belong to log {row.log_id}, this is {log.log_id}")
    end = log.end(topic, partition)
    if offset > end:
        raise LogWentBack(topic, partition, f"the tables are at {offset}, the log ends at {end}")
    if offset == 0 or row.position.last_hash is None or not GROUPS[group].kept_for_ever:
        return
    records = log.read(topic, partition, offset - 1, max_records=1)
    if not records or records[0].offset != offset - 1 or hash_of(records[0]) != row.position.last_hash:
        raise LogWentBack(topic, partition, f"the record at {offset - 1} is not the one that the tables were made from")


def check_decisions(log: Log, topic: str, partition: int, row: Row) -> None:
    """The end of a decisions topic, and the record before the position: one that its owner can have written.

    Raises LogWentBack.
    """
    offset = row.position.decisions_offset
    end = log.end(topic, partition)
    if offset > end:
        raise LogWentBack(topic, partition, f"the tables have decisions up to {offset}, the log ends at {end}")
    if offset == 0:
        return
    records = log.read(topic, partition, offset - 1, max_records=1)
    if not records or records[0].offset != offset - 1 or not _is_before(records[0].value, row):
        raise LogWentBack(topic, partition, f"the decision at {offset - 1} is not one that the tables have")


def _is_before(value: bytes | None, row: Row) -> bool:
    """Decisions that the tables have are of no later epoch, and of steps below the position."""
    if value is None:
        return False
    try:
        record = decode(value)
    except Undecodable:
        return False
    if record.epoch > row.epoch:
        return False
    return isinstance(record, Mark) or offset_of(record.position) < row.position.next_offset
