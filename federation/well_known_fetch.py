"""Getting `/.well-known/matrix/server` over HTTPS, redirects followed, everything bounded."""

from __future__ import annotations

import asyncio

from yarl import URL

from annals.federation.discovery import Target
from annals.federation.errors import FederationError
from annals.federation.settings import FederationSettings
from annals.federation.transport import HttpAnswer, HttpRequest, Transport
from annals.federation.well_known import REDIRECTS_MAX, WELL_KNOWN_BYTES_MAX, WellKnownAnswer

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HTTPS_PORT = 443


class HttpsWellKnown:
    """WellKnownFetch, by a transport: each redirect's address passes the filter as every other one does."""

    def __init__(self, transport: Transport, settings: FederationSettings) -> None:
        self._transport, self._settings = transport, settings

    async def __call__(self, hostname: str) -> WellKnownAnswer | None:
        """See WellKnownFetch."""
        try:
            # The time is for the whole chain: many slow redirects are as slow as one.
            async with asyncio.timeout(self._settings.well_known_timeout_s):
                return await self._follow(hostname)
        except (FederationError, TimeoutError, ValueError):
            return None

    async def _follow(self, hostname: str) -> WellKnownAnswer | None:
        port = self._settings.well_known_port
        url = URL.build(scheme="https", host=hostname, port=port, path="/.well-known/matrix/server")
        # "30x redirects should be followed, however redirection loops should be avoided."
        for _ in range(REDIRECTS_MAX + 1):
            answer = await self._ask(hostname, url)
            if answer.status not in _REDIRECTS:
                return WellKnownAnswer(answer.status, answer.headers, answer.body)
            url = url.join(URL(answer.headers.get("location", "")))
            # Over plain HTTP anybody on the way could say where the server is.
            if url.scheme != "https" or url.host is None:
                return None
        return None

    async def _ask(self, hostname: str, url: URL) -> HttpAnswer:
        host, port = url.host or "", url.port or _HTTPS_PORT
        literal = f"[{host}]" if ":" in host else host
        header = literal if port == _HTTPS_PORT else f"{literal}:{port}"
        request = HttpRequest(
            "GET",
            url.raw_path_qs,
            {"Accept": "application/json"},
            None,
            self._settings.well_known_timeout_s,
            WELL_KNOWN_BYTES_MAX,
        )
        return await self._transport.ask(hostname, Target(host, port, host, header), request)
