"""Leases in `ops`, as the worker asks for them."""

from __future__ import annotations

from collections.abc import Callable

from annals.database import ops
from annals.database.pool import Database

# Long beside a pause of the process, short beside what a user would notice: after a kill, who takes over waits for it.
DURATION_MS = 10_000


class OpsLease:
    """The right of `owner` (a name of this process, not given to any other) to do what `name` says."""

    def __init__(
        self, database: Database, name: str, owner: str, clock: Callable[[], int], duration_ms: int = DURATION_MS
    ) -> None:
        self._database, self._name, self._owner = database, name, owner
        self._clock, self._duration_ms = clock, duration_ms
        self._lease: ops.Lease | None = None

    async def held(self) -> bool:
        """Whether it is ours now; takes it where it is free, renews it in its second half."""
        now_ms = self._clock()
        if self._lease is None or self._lease.until_ms - now_ms < self._duration_ms // 2:
            self._lease = await self._database.write(
                lambda statements: ops.take_lease(statements, self._name, self._owner, now_ms, self._duration_ms)
            )
        return self._lease is not None

    async def release(self) -> None:
        """Give it back, so that another process need not wait for its end."""
        lease, self._lease = self._lease, None
        if lease is not None:
            await self._database.write(lambda statements: ops.release_lease(statements, lease))
