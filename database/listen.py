"""Listener: one connection that hears what other processes NOTIFY.

    PostgreSQL ── payload ──▶ thread: on_payload(payload)
    connection lost ────────▶ connect, LISTEN, then on_reconnect(): what was sent meanwhile was missed, so read again

The thread sleeps in select() on the connection and on a pipe that close() writes to: nothing is polled.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from functools import partial

import psycopg2
import psycopg2.extensions

from annals.database.connection import close_quietly, connect
from annals.database.errors import DatabaseError, translated

_log = logging.getLogger(__name__)

_RETRY_S_MIN = 0.05
_RETRY_S_MAX = 1.0


class Listener:
    """Hears one channel from when the constructor returns until `close`.

    The callbacks run in the listener's thread, one at a time: they must be quick and hand over to their own thread
    or loop. An exception of theirs is logged, and the listener goes on. The first connection is made by the
    constructor, which raises ConnectionLost if it cannot be, so that who reads the tables afterwards misses nothing.
    """

    def __init__(
        self, url: str, channel: str, on_payload: Callable[[str], None], on_reconnect: Callable[[], None]
    ) -> None:
        self._url = url
        self._channel = channel
        self._on_payload = on_payload
        self._on_reconnect = on_reconnect
        self._closing = threading.Event()
        self._connection: psycopg2.extensions.connection | None = self._connect()
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"listen-{channel}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop hearing. No callback runs after this, unless it is a callback that calls."""
        if self._closing.is_set():
            return
        self._closing.set()
        os.write(self._wake_write, b"x")
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        retry_s = _RETRY_S_MIN
        while not self._closing.is_set():
            try:
                if self._connection is None:
                    self._connection = self._connect()
                    retry_s = _RETRY_S_MIN
                    self._call(self._on_reconnect)
                self._hear(self._connection)
            except DatabaseError as error:
                _log.warning("listening on %s was interrupted: %s", self._channel, error)
                close_quietly(self._connection)
                self._connection = None
                self._sleep(retry_s)
                retry_s = min(retry_s * 2, _RETRY_S_MAX)
        close_quietly(self._connection)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _connect(self) -> psycopg2.extensions.connection:
        connection = connect(self._url, purpose="listen")
        try:
            with connection.cursor() as cursor:
                # Quoted, or PostgreSQL would fold the case that NOTIFY's argument as a string keeps.
                cursor.execute(f"LISTEN {psycopg2.extensions.quote_ident(self._channel, cursor)}")
        except psycopg2.Error as error:
            close_quietly(connection)
            raise translated(error, connection) from error
        return connection

    def _hear(self, connection: psycopg2.extensions.connection) -> None:
        """Wait for what comes next, and pass it on; DatabaseError when the connection ends."""
        # Notifications that came along with the answer to LISTEN are there without the socket being readable.
        if not connection.notifies:
            select.select([connection.fileno(), self._wake_read], [], [])
        if self._closing.is_set():
            return
        try:
            connection.poll()
        except psycopg2.Error as error:
            raise translated(error, None) from error
        while connection.notifies and not self._closing.is_set():
            payload = connection.notifies.pop(0).payload
            self._call(partial(self._on_payload, payload))

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            _log.exception("a callback of the listener on %s failed", self._channel)

    def _sleep(self, seconds: float) -> None:
        # close() ends this at once; the byte stays in the pipe for the select above.
        select.select([self._wake_read], [], [], seconds)
