"""Database: reads and small writes, in a few threads with a connection each.

caller             pool thread                      PostgreSQL
  │ read(fn) ───────▶│ BEGIN; generation, positions ──▶│   one round trip
  │                  │ fn(snapshot): its queries ─────▶│
  │◀── the result ───│                                 │   the caller goes on here,
  │                  │ ROLLBACK ──────────────────────▶│   and waits for no clean-up
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from annals.database.errors import DatabaseBusy, DatabaseClosed, DatabaseError
from annals.database.session import Guard, Session, SessionSettings, Shared
from annals.database.snapshot import Snapshot
from annals.database.statements import StatementHook, Statements

T = TypeVar("T")
_log = logging.getLogger(__name__)

POSITIONS_SQL = "SELECT * FROM positions"


class _Job:
    """What a thread shall run, and how its caller hears of the outcome."""

    __slots__ = ("done", "is_wanted", "run")

    def __init__(
        self,
        run: Callable[[Session], Any],
        done: Callable[[Any, BaseException | None], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        self.run = run
        self.done = done
        self.is_wanted = is_wanted


class Database:
    """A pool of threads, each with one connection that is made when first needed and again when lost.

    `waiting_max` bounds the requests that no thread has taken yet; past it they fail at once with DatabaseBusy.
    `on_statement` is called, in the pool's threads, with each statement that is sent (tests count them).
    """

    def __init__(
        self,
        url: str,
        threads: int = 4,
        *,
        waiting_max: int = 1000,
        statement_timeout_ms: int = 30_000,
        positions_sql: str = POSITIONS_SQL,
    ) -> None:
        self.url = url
        self.on_statement: StatementHook | None = None
        self._waiting_max = waiting_max
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        self._settings = SessionSettings(url, statement_timeout_ms, positions_sql, self._announce)
        self._shared = Shared()
        self._threads = [
            threading.Thread(target=self._work, name=f"database-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def guard_reads(self, guard: Guard) -> None:
        """Call `guard`, in the pool's threads, before each snapshot of the serving generation is taken, and what it
        returns with that snapshot, before it is read from.

        That refuses the snapshot by raising TablesBehind: tables that a crash set back must not answer. Two calls, as
        what is expected of a snapshot must be known before: more may arrive while it is on its way.
        """
        self._shared.guard = guard

    async def read(self, fn: Callable[[Snapshot], T], generation: str | None = None) -> T:
        """What `fn` makes of one snapshot: of the serving generation, or of the one named.

        `fn` runs in a pool thread, and again from its start if the connection breaks: it must only read. Raises what
        `fn` raises, Unavailable when the database cannot answer now, NotMigrated when there is no such generation.
        """
        return await self._submit(lambda session: session.read(fn, generation))

    async def write(self, fn: Callable[[Statements], T]) -> T:
        """What `fn` makes of one transaction, committed to disk; for `ops`, as projections have a writer of their own.

        Not repeated when the connection breaks: after ConnectionLost it may or may not have happened.
        """
        return await self._submit(lambda session: session.write(fn))

    def read_now(self, fn: Callable[[Snapshot], T], generation: str | None = None) -> T:
        """As `read`, for callers without an event loop; blocks."""
        return self._submit_now(lambda session: session.read(fn, generation))

    def write_now(self, fn: Callable[[Statements], T]) -> T:
        """As `write`, for callers without an event loop; blocks."""
        return self._submit_now(lambda session: session.write(fn))

    def close(self) -> None:
        """Finish what was taken, refuse what was not, close the connections."""
        if self._closed:
            return
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        while not self._jobs.empty():
            if (job := self._jobs.get()) is not None:
                job.done(None, DatabaseClosed("the database pool is closed"))

    async def _submit(self, run: Callable[[Session], T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def done(result: Any, error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(settle, result, error)
            except RuntimeError:
                # The loop was closed while we worked: nobody waits any more.
                _log.debug("the reader's event loop is closed")

        self._put(_Job(run, done, lambda: not future.done()))
        return await future

    def _submit_now(self, run: Callable[[Session], T]) -> T:
        if threading.current_thread() in self._threads:
            raise DatabaseError("a read inside a read would wait for itself: use the snapshot")
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def done(result: Any, error: BaseException | None) -> None:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self._put(_Job(run, done, lambda: True))
        return future.result()

    def _put(self, job: _Job) -> None:
        if self._closed:
            raise DatabaseClosed("the database pool is closed")
        if self._jobs.qsize() >= self._waiting_max:
            raise DatabaseBusy(f"{self._waiting_max} reads wait already")
        self._jobs.put(job)

    def _work(self) -> None:
        session = Session(self._settings, self._shared)
        while (job := self._jobs.get()) is not None:
            if not job.is_wanted():
                continue
            _settle(job, session)
            # A thread that waits for its next job must not keep the last one's answer alive.
            del job
            session.finish()
        session.close()

    def _announce(self, sql: str) -> None:
        if (hook := self.on_statement) is not None:
            hook(sql)


def _settle(job: _Job, session: Session) -> None:
    try:
        result = job.run(session)
    except StopIteration as error:
        # A future refuses this one, and its caller would wait for ever.
        job.done(None, RuntimeError(f"a read raised {error!r}"))
    except BaseException as error:
        job.done(None, error)
    else:
        job.done(result, None)
