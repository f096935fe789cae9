"""Asking another server: signed requests, bounded answers, errors that say whose fault it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import Any, Self
from urllib.parse import quote, urlencode

from annals.federation.addresses import AddressFilter
from annals.federation.discovery import Discovery
from annals.federation.errors import BadAnswer, FederationError, Refused, Unreachable
from annals.federation.names import Names, SystemNames
from annals.federation.settings import FederationSettings
from annals.federation.tls import client_context
from annals.federation.transport import HttpAnswer, HttpRequest, Transport
from annals.federation.well_known import WellKnown
from annals.federation.well_known_fetch import HttpsWellKnown
from annals.matrix.canonical_json import canonical_bytes, loads
from annals.matrix.errors import InvalidJson
from annals.matrix.signing import SigningKey
from annals.matrix.x_matrix import authorization

__all__ = ["AddressFilter", "FederationClient", "Identity", "Query", "path_of"]

Query = Sequence[tuple[str, str | int]]
_ERROR_TEXT_MAX = 500


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: our server name and the key that signs our requests."""

    server_name: str
    key: SigningKey


class FederationClient:
    """Requests to other servers, by their names. One a process; inside of one event loop; `close` it."""

    def __init__(
        self,
        identity: Identity,
        settings: FederationSettings,
        now_ms: Callable[[], int],
        names: Names | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        self._identity, self._settings = identity, settings
        self._own_names = own = SystemNames() if names is None else None
        looked_up: Names | None = names or own
        assert looked_up is not None
        chance = chance or SystemRandom().random
        self._transport = Transport(settings, looked_up, client_context(settings.ca_files))
        self._well_known = WellKnown(HttpsWellKnown(self._transport, settings), now_ms, chance)
        self._discovery = Discovery(looked_up, self._well_known, chance)

    async def get(
        self, server: str, path: str, query: Query = (), *, timeout_s: float | None = None, bytes_max: int | None = None
    ) -> Any:
        """The JSON answer to a signed GET. Raises `FederationError`."""
        return _json(server, await self.ask(server, "GET", path, query, timeout_s=timeout_s, bytes_max=bytes_max))

    async def put(
        self,
        server: str,
        path: str,
        content: dict[str, Any],
        query: Query = (),
        *,
        timeout_s: float | None = None,
        bytes_max: int | None = None,
    ) -> Any:
        """The JSON answer to a signed PUT. Raises `FederationError`."""
        body = await self.ask(server, "PUT", path, query, content, timeout_s=timeout_s, bytes_max=bytes_max)
        return _json(server, body)

    async def post(
        self,
        server: str,
        path: str,
        content: dict[str, Any],
        query: Query = (),
        *,
        timeout_s: float | None = None,
        bytes_max: int | None = None,
    ) -> Any:
        """The JSON answer to a signed POST. Raises `FederationError`."""
        body = await self.ask(server, "POST", path, query, content, timeout_s=timeout_s, bytes_max=bytes_max)
        return _json(server, body)

    async def ask(
        self,
        server: str,
        method: str,
        path: str,
        query: Query = (),
        content: dict[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        bytes_max: int | None = None,
        signed: bool = True,
    ) -> bytes:
        """The body of a 200 answer, unread: for large ones, which are parsed where that hurts nobody.

        `path` is percent-encoded (`path_of`). Raises `Unreachable`, `BadAnswer`, `Refused`.
        """
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json"}
        if signed:
            us = self._identity
            headers["Authorization"] = authorization(us.server_name, server, us.key, method, target, content)
        if content is not None:
            headers["Content-Type"] = "application/json"
        request = HttpRequest(
            method,
            target,
            headers,
            None if content is None else canonical_bytes(content),
            timeout_s or self._settings.request_timeout_s,
            bytes_max or self._settings.answer_bytes_max,
        )
        answer = await self._first_reached(server, request)
        if answer.status != 200:
            raise _refusal(server, answer)
        return answer.body

    async def close(self) -> None:
        """Close every connection."""
        await self._well_known.close()
        await self._transport.close()
        if self._own_names is not None:
            self._own_names.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _first_reached(self, server: str, request: HttpRequest) -> HttpAnswer:
        # Another server shall not answer in our name, and we need no network to ask ourselves.
        if server == self._identity.server_name:
            raise Unreachable(server, "that is this server")
        failed: FederationError | None = None
        for target in await self._discovery.targets(server):
            try:
                return await self._transport.ask(server, target, request)
            except Unreachable as error:
                # Only where nothing was sent for sure may the next of the SRV records be asked the same.
                if not error.was_never_sent:
                    raise
                failed = error
        raise failed or Unreachable(server, "no address")


def path_of(*segments: str) -> str:
    """`/_matrix/…` of these segments, each percent-encoded whole: a slash in an event id stays inside of it."""
    return "/_matrix/" + "/".join(quote(segment, safe="") for segment in segments)


def _json(server: str, body: bytes) -> Any:
    try:
        return loads(body)
    except InvalidJson as error:
        raise BadAnswer(server, f"not JSON: {error}") from error


def _refusal(server: str, answer: HttpAnswer) -> Refused:
    try:
        value = loads(answer.body)
    except InvalidJson:
        value = None
    value = value if type(value) is dict else {}
    errcode, message, wait_ms = value.get("errcode"), value.get("error"), value.get("retry_after_ms")
    return Refused(
        server,
        answer.status,
        errcode[:_ERROR_TEXT_MAX] if type(errcode) is str else "",
        message[:_ERROR_TEXT_MAX] if type(message) is str else "",
        wait_ms if type(wait_ms) is int else _retry_after_ms(answer.headers),
    )


def _retry_after_ms(headers: Mapping[str, str]) -> int | None:
    seconds = headers.get("retry-after", "")
    return int(seconds) * 1000 if seconds.isascii() and seconds.isdigit() and len(seconds) < 10 else None
