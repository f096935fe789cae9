"""Keeping the log small: what was overwritten or has aged goes, by one process at a time."""

from __future__ import annotations

import asyncio

import structlog

from annals.database.errors import DatabaseError
from annals.database.leases import OpsLease
from annals.eventlog.api import Log
from annals.eventlog.errors import LogError
from annals.schemas.topics import TOPICS

_STEP_S = 60.0
#: Compaction reads a whole topic: seldom where keys are overwritten slowly, often where records live for minutes.
_STEPS_BETWEEN_COMPACTIONS = 60

log = structlog.get_logger(__name__)


async def keep_small(eventlog: Log, lease: OpsLease) -> None:
    """Compact topics again and again, until cancelled."""
    step = 0
    while True:
        await asyncio.sleep(_STEP_S)
        try:
            if await lease.held():
                await asyncio.to_thread(_compact, eventlog, step)
        except (DatabaseError, LogError) as error:
            log.warning("not_compacted", error=repr(error))
        step += 1


def _compact(eventlog: Log, step: int) -> None:
    for spec in TOPICS.values():
        aged = spec.retention_ms is not None
        if aged or (spec.compacted and step % _STEPS_BETWEEN_COMPACTIONS == 0):
            removed = eventlog.compact(spec.name)
            if removed:
                log.info("compacted", topic=spec.name, records=removed)
