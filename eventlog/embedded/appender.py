"""The thread that commits: all that queued during the last commit is the next one. No linger, no sleep.

Who waits for a commit anyway may make it itself, while nothing else is under way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from annals.eventlog.embedded.commit import Request, write
from annals.eventlog.embedded.doorbell import Ringer
from annals.eventlog.embedded.lock import WriterLock
from annals.eventlog.embedded.store import Store
from annals.eventlog.errors import AppendFailed, BackPressure, LogClosed
from annals.eventlog.limits import Limits

_COMMIT_RECORDS = 4000
_COMMIT_BYTES = 16 << 20


class Appender:
    """Queue and thread. `written` is told the size of each commit, in bytes."""

    def __init__(
        self,
        store: Store,
        lock: WriterLock,
        ringer: Ringer,
        clock_ms: Callable[[], int],
        limits: Limits,
        written: Callable[[int], None],
    ) -> None:
        self._store, self._lock, self._ringer = store, lock, ringer
        self._clock_ms, self._limits, self._written = clock_ms, limits, written
        self._connection = store.connect()
        self._queue: SimpleQueue[Request | None] = SimpleQueue()
        self._guard = threading.Lock()
        self._waiting_records = 0
        self._waiting_bytes = 0
        self._closed = False
        # Held by who commits. Taken within the guard only without waiting, as a commit ends with a look at the guard.
        self._committing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log-appender", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Future[list[int]]:
        """Queues, or raises BackPressure. One request above the limits is taken when nothing else waits."""
        # Nobody can cancel what may be on its way to the disk.
        request.future.set_running_or_notify_cancel()
        with self._guard:
            if self._closed:
                raise LogClosed("the log is closed")
            records = self._waiting_records + len(request.rows)
            size_bytes = self._waiting_bytes + request.size_bytes
            if self._waiting_records and (records > self._limits.records or size_bytes > self._limits.size_bytes):
                raise BackPressure(f"{self._waiting_records} records, {self._waiting_bytes} bytes wait for the disk")
            self._waiting_records, self._waiting_bytes = records, size_bytes
            self._queue.put(request)
        return request.future

    def commit_here(self, request: Request) -> list[int]:
        """The offsets of a request: committed on this thread where nothing waits or is under way, else as `submit`."""
        if not self._begin_here(request):
            return self.submit(request).result()
        try:
            self._commit(request, alone=True)
        finally:
            self._committing.release()
        return request.future.result()

    def _begin_here(self, request: Request) -> bool:
        """Whether the request is all that waits now, and it is for this thread to commit it."""
        with self._guard:
            # What this thread has queued before would be overtaken.
            if self._closed or self._waiting_records or not self._committing.acquire(blocking=False):
                return False
            request.future.set_running_or_notify_cancel()
            self._waiting_records, self._waiting_bytes = len(request.rows), request.size_bytes
            return True

    def close(self) -> None:
        """Commits what is queued, then ends the thread."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        with self._committing:
            self._store.release(self._connection)

    def abandon(self) -> None:
        """In a forked child, where the thread does not exist and its locks may be held for ever."""
        self._guard, self._committing = threading.Lock(), threading.Lock()
        self._closed = True

    def _run(self) -> None:
        ended = False
        carried: Request | None = None
        while not ended:
            first = carried or self._queue.get()
            if first is None:
                return
            with self._committing:
                ended, carried = self._commit(first)

    def _commit(self, first: Request, *, alone: bool = False) -> tuple[bool, Request | None]:
        """Commits `first`, unless it is `alone` with what else waits. Gives what `_drain` gives."""
        requests = [first]
        ended, carried = False, None
        try:
            with self._lock.held():
                # Only now: what came while another process held the lock goes with this commit too.
                if not alone:
                    ended, carried = self._drain(requests)
                offsets, ends = write(self._connection, requests, self._clock_ms)
        except BaseException as error:  # whatever it is, callers wait for an answer and the thread goes on
            self._settle(requests)
            for request in requests:
                request.future.set_exception(_failure(error))
            if alone and not isinstance(error, Exception):
                raise  # Ctrl-C is for this thread's caller
            return ended, carried
        self._ringer.ring(ends)
        self._settle(requests)
        for request, taken in zip(requests, offsets, strict=True):
            request.future.set_result(taken)
        self._written(sum(request.size_bytes for request in requests))
        return ended, carried

    def _drain(self, requests: list[Request]) -> tuple[bool, Request | None]:
        """Adds what waits to `requests`. Gives whether the queue ended there, else what no longer fitted."""
        records, size_bytes = len(requests[0].rows), requests[0].size_bytes
        while True:
            try:
                request = self._queue.get_nowait()
            except Empty:
                return False, None
            if request is None:
                return True, None
            records, size_bytes = records + len(request.rows), size_bytes + request.size_bytes
            if records > _COMMIT_RECORDS or size_bytes > _COMMIT_BYTES:
                return False, request
            requests.append(request)

    def _settle(self, requests: list[Request]) -> None:
        with self._guard:
            self._waiting_records -= sum(len(request.rows) for request in requests)
            self._waiting_bytes -= sum(request.size_bytes for request in requests)


def _failure(error: BaseException) -> AppendFailed:
    failure = AppendFailed(f"not known to be on disk: {error}")
    failure.__cause__ = error
    return failure
