"""One ASGI application on all listeners of a process, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog
import uvicorn

from annals.server.config import Config, ConfigError, Listener, TlsListener
from annals.server.together import TogetherProtocol

BACKLOG = 2048
# The supervisor waits a little longer than this before it kills.
GRACEFUL_SHUTDOWN_S = 2
PORT_PATIENCE_S, PORT_RETRY_S = 5.0, 0.1

# What /_matrix answers when it cannot answer now (annals.api.errors.not_now); CORS, or browsers would not see it.
_STOPPING_BODY = b'{"errcode":"M_UNKNOWN","error":"The server is stopping: try again"}'
_STOPPING_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_STOPPING_BODY)).encode()),
    (b"retry-after", b"1"),
    (b"access-control-allow-origin", b"*"),
]

log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to us: uvicorn's own handlers know of one server a process."""
        yield


async def serve(app: Any, config: Config, on_stopping: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT. `on_stopping` is called first of all then: let long polls answer and go.

    The application's lifespan runs once, whatever the number of listeners. Raises ConfigError where an address cannot
    be had, or where a certificate cannot be read.
    """
    listeners: Sequence[Listener | TlsListener] = [*config.client_listeners]
    if config.federation_listener is not None:
        listeners = [*listeners, config.federation_listener]
    app = answering_when_cancelled(app)
    # All sockets first: a port that is taken shows before anything has started.
    sockets = [await _bound(listener) for listener in listeners]
    servers = [_Server(_settings(app, listener, first=n == 0)) for n, listener in enumerate(listeners)]

    def stop() -> None:
        on_stopping()
        for server in servers:
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await asyncio.gather(*(server.serve([sock]) for server, sock in zip(servers, sockets, strict=True)))


def answering_when_cancelled(app: Any) -> Any:
    """Who still waits when the time for stopping is over hears 503, "try again", and not uvicorn's 500."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        begun = False

        async def noting(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await app(scope, receive, noting)
        except asyncio.CancelledError:
            if begun or scope["type"] != "http":
                raise
            await send({"type": "http.response.start", "status": 503, "headers": _STOPPING_HEADERS})
            await send({"type": "http.response.body", "body": _STOPPING_BODY})

    return asgi


async def _bound(listener: Listener | TlsListener) -> socket.socket:
    """A socket that listens. The process before us may need a moment to let go of the port."""
    deadline = asyncio.get_running_loop().time() + PORT_PATIENCE_S
    while True:
        try:
            sock = _listening(listener)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or asyncio.get_running_loop().time() > deadline:
                where = f"{listener.address} port {listener.port}"
                raise ConfigError(f"cannot listen on {where}: {error.strerror}") from error
            await asyncio.sleep(PORT_RETRY_S)
        else:
            log.info("listening", address=listener.address, port=listener.port, tls=isinstance(listener, TlsListener))
            return sock


def _listening(listener: Listener | TlsListener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((listener.address, listener.port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _settings(app: Any, listener: Listener | TlsListener, *, first: bool) -> uvicorn.Config:
    settings = uvicorn.Config(
        app,
        http=TogetherProtocol,
        loop="none",
        ws="none",
        lifespan="on" if first else "off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
        backlog=BACKLOG,
    )
    if isinstance(listener, TlsListener):
        settings.ssl_certfile, settings.ssl_keyfile = str(listener.tls_cert), str(listener.tls_key)
    try:
        settings.load()
    except OSError as error:  # ssl.SSLError among them
        raise ConfigError(f"federation_listener: certificate or key: {error}") from error
    return settings
