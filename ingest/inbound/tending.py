"""What has to be done for transactions beside taking them: retries from quarantine, and forgetting old answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from annals.database.errors import DatabaseError
from annals.database.pool import Database
from annals.eventlog.errors import LogError
from annals.ingest.inbound.answers import forget_answers
from annals.ingest.inbound.retrying import QuarantineRetrier
from annals.projectors.positions.errors import LogBehindTables, TryAgain

LOOK_S = 2.0
STANDBY_S = 5.0
_FORGET_EVERY_MS = 10 * 60 * 1000

_logger = structlog.get_logger(__name__)


class Lease(Protocol):
    """The right to do this, for one process at a time (database.leases)."""

    async def held(self) -> bool:
        """Whether it is ours now."""
        ...


async def tend(retrier: QuarantineRetrier, database: Database, lease: Lease, now_ms: Callable[[], int]) -> None:
    """For ever, until cancelled."""
    forgotten_ms = 0
    while True:
        try:
            if not await lease.held():
                await asyncio.sleep(STANDBY_S)
                continue
            await retrier.work()
            if now_ms() - forgotten_ms > _FORGET_EVERY_MS:
                forgotten_ms = now_ms()
                await database.write(lambda statements: forget_answers(statements, now_ms()))
        except (DatabaseError, LogError, TryAgain, LogBehindTables) as error:
            _logger.warning("quarantine_not_tried", error=repr(error))
        except Exception:
            # One input that nothing here can take must not end the retries of all others.
            _logger.exception("quarantine_not_tried")
        await asyncio.sleep(LOOK_S)
