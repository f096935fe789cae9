"""Listener: the one connection on which a process hears what others NOTIFY, on the event loop that is to know of it.

    PostgreSQL ── payload ──▶ event loop: on_payload(payload) of who subscribed to the channel
    connection lost ────────▶ connect, LISTEN, then on_reconnect(): what was sent meanwhile was missed, so read again

The event loop itself waits for the connection's socket: a thread between would cost each process that hears a commit
as much as what it does about it. One connection for all channels, as PostgreSQL wakes every listening backend of a
database for any of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import psycopg2
import psycopg2.extensions

from annals.database.connection import close_quietly, connect
from annals.database.errors import DatabaseError, translated

_log = logging.getLogger(__name__)

_RETRY_S_MIN = 0.05
_RETRY_S_MAX = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Subscriber:
    on_payload: Callable[[str], None]
    on_reconnect: Callable[[], None]


class Listener:
    """Hears `channels` from when `start` returned until `close`. Lives on one event loop.

    Callbacks must be quick. An exception of theirs is logged, and the listener goes on.
    """

    def __init__(self, url: str, channels: Sequence[str]) -> None:
        self._url = url
        self._subscribers: defaultdict[str, list[_Subscriber]] = defaultdict(list)
        self._channels = tuple(channels)
        self._connection: psycopg2.extensions.connection | None = None
        self._fd = -1
        self._reconnecting: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Begin to hear: who reads the tables afterwards misses nothing. Raises ConnectionLost."""
        self._follow(await asyncio.to_thread(self._connect))

    def subscribe(
        self, channel: str, on_payload: Callable[[str], None], on_reconnect: Callable[[], None] = lambda: None
    ) -> Callable[[], None]:
        """Have these called on the event loop; the result ends that."""
        if channel not in self._channels:
            raise ValueError(f"this listener does not hear {channel!r}")
        subscriber = _Subscriber(on_payload, on_reconnect)
        self._subscribers[channel].append(subscriber)
        return partial(self._subscribers[channel].remove, subscriber)

    async def close(self) -> None:
        """Stop hearing: nothing is called after this."""
        self._closed = True
        self._leave()
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            with suppress(asyncio.CancelledError):
                await self._reconnecting

    def _connect(self) -> psycopg2.extensions.connection:
        connection = connect(self._url, purpose="listen")
        try:
            with connection.cursor() as cursor:
                # Quoted, or PostgreSQL would fold the case that NOTIFY's argument as a string keeps.
                names = [psycopg2.extensions.quote_ident(channel, cursor) for channel in self._channels]
                cursor.execute("; ".join([f"LISTEN {name}" for name in names]))
        except psycopg2.Error as error:
            close_quietly(connection)
            raise translated(error, connection) from error
        return connection

    def _follow(self, connection: psycopg2.extensions.connection) -> None:
        if self._closed:
            close_quietly(connection)
            return
        self._connection, self._fd = connection, connection.fileno()
        asyncio.get_running_loop().add_reader(self._fd, self._hear)
        # What came along with the answer to LISTEN does not make the socket readable.
        self._pass_on(connection)

    def _leave(self) -> None:
        """Let go of the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            close_quietly(connection)

    def _hear(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            connection.poll()
        except psycopg2.Error as error:
            _log.warning("listening was interrupted: %s", str(error).strip())
            self._leave()
            self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect())
            return
        self._pass_on(connection)

    def _pass_on(self, connection: psycopg2.extensions.connection) -> None:
        while connection.notifies and not self._closed:
            notify = connection.notifies.pop(0)
            for subscriber in list(self._subscribers[notify.channel]):
                self._call(partial(subscriber.on_payload, notify.payload))

    async def _reconnect(self) -> None:
        retry_s = _RETRY_S_MIN
        while not self._closed:
            try:
                self._follow(await asyncio.to_thread(self._connect))
                break
            except DatabaseError as error:
                _log.warning("cannot listen: %s", error)
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _RETRY_S_MAX)
        for subscriber in [one for many in list(self._subscribers.values()) for one in many]:
            self._call(subscriber.on_reconnect)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            if not self._closed:
                callback()
        except Exception:
            _log.exception("a callback of the listener failed")
