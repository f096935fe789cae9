"""Connections to other servers: pools, TLS, the address filter, and reading no more than was agreed."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from annals.federation.addresses import AddressDenied
from annals.federation.discovery import Target
from annals.federation.errors import AddressRefused, AnswerLost, AnswerTooLarge, Unreachable
from annals.federation.names import AiohttpNames, Names
from annals.federation.settings import FederationSettings

_CHUNK_BYTES = 64 << 10
_HEADER_BYTES_MAX = 16 << 10
_HEADER_LINE_BYTES_MAX = 8 << 10


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer as it came, whatever its status. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request, ready to be sent. `target` is the path with its query, percent-encoded."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout_s: float
    answer_bytes_max: int


class Transport:
    """One process's connections to all other servers. Use it inside of one event loop; `close` it."""

    def __init__(self, settings: FederationSettings, names: Names, context: ssl.SSLContext) -> None:
        self._settings = settings
        connector = aiohttp.TCPConnector(
            ssl=context,
            resolver=AiohttpNames(names),
            # Every connection is made from a socket of the filter: what does not pass is never connected to.
            socket_factory=settings.addresses.socket_for,
            limit=settings.connections_max,
            limit_per_host=settings.connections_per_server_max,
            keepalive_timeout=settings.idle_connection_s,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # no proxy of the environment: it would connect for us, past the filter
            raise_for_status=False,
            max_line_size=_HEADER_LINE_BYTES_MAX,
            max_field_size=_HEADER_BYTES_MAX,
        )

    async def ask(self, server: str, target: Target, request: HttpRequest) -> HttpAnswer:
        """The answer of the server at `target`; redirects are answers. Raises `Unreachable`, `AnswerTooLarge`."""
        url = _url(server, target, request.target)
        headers = {"User-Agent": self._settings.user_agent, **request.headers, "Host": target.host_header}
        timeout = aiohttp.ClientTimeout(total=request.timeout_s, sock_connect=self._settings.connect_timeout_s)
        answering = False
        try:
            async with self._session.request(
                request.method,
                url,
                data=request.body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                server_hostname=target.certificate_name,
            ) as response:
                answering = True
                body = await _bounded(server, response, request.answer_bytes_max)
                lower = {name.lower(): value for name, value in response.headers.items()}
                return HttpAnswer(response.status, lower, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            if isinstance(refused := getattr(error, "os_error", None), AddressDenied):
                raise AddressRefused(server, str(refused), was_never_sent=True) from error
            raise Unreachable(server, str(error), was_never_sent=True) from error
        except aiohttp.InvalidURL as error:
            raise Unreachable(server, f"not an address: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise (AnswerLost if answering else Unreachable)(server, reason) from error

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()


def _url(server: str, target: Target, path_and_query: str) -> URL:
    # Exactly the bytes that were signed: nothing is encoded anew, and no path can name another host.
    path, _, query = path_and_query.partition("?")
    try:
        place = URL.build(scheme="https", host=target.host, port=target.port)
        return URL.build(scheme="https", authority=place.raw_authority, path=path, query_string=query, encoded=True)
    except ValueError as error:  # a name in the grammar of server names that can be no host's: empty labels, say
        raise Unreachable(server, f"no host has this name: {error}", was_never_sent=True) from error


async def _bounded(server: str, response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    if (response.content_length or 0) > bytes_max:
        response.close()
        raise AnswerTooLarge(server, f"an answer of {response.content_length} bytes, over {bytes_max}")
    chunks, size = [], 0
    # What comes out is counted, unpacked: a compressed answer grows here or not at all.
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        size += len(chunk)
        if size > bytes_max:
            response.close()
            raise AnswerTooLarge(server, f"an answer of over {bytes_max} bytes")
        chunks.append(chunk)
    return b"".join(chunks)
