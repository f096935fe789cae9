"""Finishing switches that were killed before every room had its fact: a task of the process `remote`."""

from __future__ import annotations

import asyncio

import structlog

from annals.audit.errors import GenerationInUse
from annals.audit.operating import operating
from annals.audit.switched import finish, has_unfinished
from annals.database.errors import DatabaseError
from annals.database.pool import Database
from annals.eventlog.api import Log
from annals.eventlog.errors import LogError
from annals.server.clock import now_ms
from annals.server.version import VERSION

_LOOK_S = 2.0

_logger = structlog.get_logger(__name__)


async def finish_switches(log: Log, database: Database) -> None:
    """For ever, until cancelled. A switch that is under way is left to who began it."""
    while True:
        try:
            if await asyncio.to_thread(has_unfinished, database):
                for done in await asyncio.to_thread(finish, operating(log, now_ms, VERSION), database):
                    _logger.info("switch_finished", generation=done.generation, rooms=len(done.rooms))
        except GenerationInUse:
            pass
        except (DatabaseError, LogError) as error:
            _logger.warning("switches_not_finished", error=repr(error))
        await asyncio.sleep(_LOOK_S)
