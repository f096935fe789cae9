"""`/.well-known/matrix/server`: fetching it within bounds, and remembering what came of it."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from annals.federation.backoff import Backoff, BackoffRule, after_failure
from annals.federation.flights import Flights
from annals.matrix.canonical_json import loads
from annals.matrix.errors import InvalidJson
from annals.matrix.identifiers import is_server_name

WELL_KNOWN_BYTES_MAX = 51_200
REDIRECTS_MAX = 5

_SECOND, _HOUR = 1000, 3600 * 1000
# "The recommended sensible default is 24 hours." "a maximum cache time for responses: 48 hours is recommended."
DEFAULT_CACHE_MS, LONGEST_CACHE_MS = 24 * _HOUR, 48 * _HOUR
# Below this, a server that forbids caching would be asked before each request to it.
SHORTEST_CACHE_MS = 5 * 60 * _SECOND
# "Errors are recommended to be cached for up to an hour, and servers are encouraged to exponentially back off"
FAILURES = BackoffRule(first_ms=5 * 60 * _SECOND, factor=2, longest_ms=_HOUR)
_CACHED_MAX = 20_000

_MAX_AGE = re.compile(r"(?:s-maxage|max-age)=\"?([0-9]{1,18})\"?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WellKnownAnswer:
    """An answer to the request, redirects followed. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class WellKnownFetch(Protocol):
    """How the answer is got."""

    async def __call__(self, hostname: str) -> WellKnownAnswer | None:
        """The answer; None where there was none to be had, or it was too large."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    delegated: str | None
    until_ms: int
    failing: Backoff | None
    """None after a success."""


class WellKnown:
    """Delegations of servers, cached. One request a host is under way at most."""

    def __init__(self, fetch: WellKnownFetch, now_ms: Callable[[], int], chance: Callable[[], float]) -> None:
        self._fetch, self._now_ms, self._chance = fetch, now_ms, chance
        self._cached: OrderedDict[str, _Known] = OrderedDict()
        self._flights: Flights[str, str | None] = Flights()

    async def delegation(self, hostname: str) -> str | None:
        """The server name that `hostname` delegates to; None where it does not, or cannot be asked."""
        # Names of hosts are the same in any letter case.
        hostname = hostname.lower()
        known = self._cached.get(hostname)
        if known is not None and self._now_ms() < known.until_ms:
            self._cached.move_to_end(hostname)
            return known.delegated
        return await self._flights.join(hostname, lambda: self._ask(hostname))

    async def close(self) -> None:
        """End what is under way."""
        await self._flights.close()

    async def _ask(self, hostname: str) -> str | None:
        answer = await self._fetch(hostname)
        delegated = None if answer is None else delegated_name(answer)
        now_ms, before = self._now_ms(), self._cached.get(hostname)
        if answer is None or delegated is None:
            backoff = after_failure(before.failing if before else None, now_ms, self._chance(), FAILURES)
            known = _Known(None, backoff.retry_at_ms, backoff)
        else:
            known = _Known(delegated, now_ms + cache_time_ms(answer.headers), None)
        self._cached[hostname] = known
        self._cached.move_to_end(hostname)
        while len(self._cached) > _CACHED_MAX:
            self._cached.popitem(last=False)
        return delegated


def delegated_name(answer: WellKnownAnswer) -> str | None:
    """The `m.server` of an answer; None where it is invalid ("bad JSON, missing properties, non-200 response, etc")."""
    if answer.status != 200:
        return None
    try:
        value = loads(answer.body)
    except InvalidJson:
        return None
    name = value.get("m.server") if type(value) is dict else None
    return name if type(name) is str and is_server_name(name) else None


def cache_time_ms(headers: Mapping[str, str]) -> int:
    """How long a valid answer is good for, by its Cache-Control."""
    control = headers.get("cache-control", "")
    directives = [directive.strip() for directive in control.lower().split(",")]
    if "no-store" in directives or "no-cache" in directives:
        return SHORTEST_CACHE_MS
    for directive in directives:
        if (found := _MAX_AGE.fullmatch(directive)) is not None:
            return min(max(int(found[1]) * _SECOND, SHORTEST_CACHE_MS), LONGEST_CACHE_MS)
    return DEFAULT_CACHE_MS
