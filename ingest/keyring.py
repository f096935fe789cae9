"""The keyring: public keys of other servers, each asked for once.

Who checks signatures says first which keys a whole batch needs, then waits once. A server is asked by one request at a
time; whoever needs a key of it meanwhile waits for that one. What could not be had is not asked for again for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import structlog

from annals.federation.backoff import Backoff, BackoffRule, after_failure
from annals.federation.flights import Flights
from annals.ingest.key_store import FetchedKeys, KeyStore, merged
from annals.matrix.server_keys import COMPROMISED, KnownKey
from annals.matrix.signing import KEY_VALIDITY_MAX_MS, SigningKey, VerifyKey

_log = structlog.get_logger(__name__)

FAILURES = BackoffRule(first_ms=10_000, factor=2, longest_ms=10 * 60 * 1000)
# A server that answered is not asked again at once for a key that its answer lacks: any event may name any key id.
REFETCH_AFTER_MS = 30_000
_SERVERS_MAX = 20_000
_WANTED_MAX = 100
_NEVER_MS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class KeyNeed:
    """A key that somebody wants to check a signature with."""

    server: str
    key_id: str
    until_ms: int = 0
    """The key must be valid at this time; 0 where the room version does not ask."""


class Lack(StrEnum):
    """Why there is no key."""

    UNREACHABLE = "key_unreachable"
    """Neither its server nor a notary could be asked."""
    NOT_PUBLISHED = "key_not_published"
    """Its server was asked, and does not name it."""
    NOT_VALID = "key_not_valid"
    """It is known, and was not, or cannot yet be, valid at the time that is asked for."""
    COMPROMISED = "key_compromised"
    """Its private half is public."""


@dataclass(frozen=True, slots=True)
class KeyMissing:
    """There is no key to check with, and when it makes sense to ask again (None: never)."""

    lack: Lack
    retry_at_ms: int | None


class KeyFetchFailed(Exception):
    """Nobody gave an answer that passes; the message says why."""


class KeyFetcher(Protocol):
    """How keys are asked for."""

    async def direct(self, server: str) -> FetchedKeys:
        """What the server says itself; raises KeyFetchFailed."""
        ...

    def asks_notaries_for(self, server: str) -> bool:
        """Whether there is a notary that may be asked about the server."""
        ...

    async def from_notaries(self, server: str, wanted: Mapping[str, int]) -> list[FetchedKeys]:
        """What notaries say of these key ids, each with the time at which it must be valid; none fails: []."""
        ...


@dataclass(frozen=True, slots=True)
class _Closed:
    """A server that is not asked before a time."""

    until_ms: int
    failing: Backoff | None
    """None where it answered."""


class Keyring:
    """Keys of all servers. One a process, inside of one event loop; `known` may be called in any thread."""

    def __init__(
        self,
        server_name: str,
        own: Iterable[SigningKey],
        store: KeyStore,
        fetcher: KeyFetcher,
        now_ms: Callable[[], int],
        chance: Callable[[], float],
        compromised: frozenset[bytes] = COMPROMISED,
        retired: Iterable[tuple[VerifyKey, int]] = (),
    ) -> None:
        self._server_name, self._store, self._fetcher = server_name, store, fetcher
        self._now_ms, self._chance, self._compromised = now_ms, chance, compromised
        # `retired`: keys of ours that sign no more, each with the time at which it was last used.
        self._own = {key.key_id: KnownKey(key, expired_ms, False, True, 0) for key, expired_ms in retired}
        self._own |= {key.key_id: KnownKey(key.verify_key, _NEVER_MS, True, True, 0) for key in own}
        # The inner mappings are replaced, never changed: other threads read them.
        self._keys: dict[str, Mapping[str, KnownKey]] = {}
        self._closed: dict[str, _Closed] = {}
        self._wanted: dict[str, dict[str, int]] = {}
        self._flights: Flights[str, None] = Flights()

    def known(self, need: KeyNeed) -> KnownKey | KeyMissing | None:
        """What memory says, for whoever cannot wait; None where the key has to be asked for. Thread safe."""
        if need.server == self._server_name:
            return self._own_key(need)
        # No server can say today that a key of its is valid later than that.
        if need.until_ms > self._now_ms() + KEY_VALIDITY_MAX_MS:
            return KeyMissing(Lack.NOT_VALID, need.until_ms - KEY_VALIDITY_MAX_MS)
        key = self._keys.get(need.server, {}).get(need.key_id)
        if key is None:
            return None
        if key.key.public in self._compromised:
            return KeyMissing(Lack.COMPROMISED, None)
        return key if key.valid_until_ms >= need.until_ms else None

    def _own_key(self, need: KeyNeed) -> KnownKey | KeyMissing:
        key = self._own.get(need.key_id)
        if key is None:
            return KeyMissing(Lack.NOT_PUBLISHED, None)
        if key.key.public in self._compromised:
            return KeyMissing(Lack.COMPROMISED, None)
        return key if key.valid_until_ms >= need.until_ms else KeyMissing(Lack.NOT_VALID, None)

    async def keys(self, needs: Collection[KeyNeed]) -> dict[KeyNeed, KnownKey | KeyMissing]:
        """The keys of a whole batch, or why there is none. Raises what the store raises."""
        await self._load({need.server for need in needs})
        found = {need: self.known(need) for need in needs}
        lacking: dict[str, list[KeyNeed]] = {}
        for need, key in found.items():
            if key is None:
                lacking.setdefault(need.server, []).append(need)
        asking = [self._begin(server, of_server) for server, of_server in lacking.items() if self._is_open(server)]
        if asking:
            # Unlike gather, `wait` leaves alone what it waits for when the waiter is cancelled.
            await asyncio.wait(asking)
        for flight in asking:
            flight.result()
        return {need: key or self.known(need) or self._missing(need) for need, key in found.items()}

    def heard_from(self, server: str) -> None:
        """The server talks to us: it can be asked again, however long it failed."""
        closed = self._closed.get(server)
        if closed is not None and closed.failing is not None:
            del self._closed[server]

    async def close(self) -> None:
        """End what is under way."""
        await self._flights.close()

    async def _load(self, servers: Collection[str]) -> None:
        unknown = {server for server in servers if server not in self._keys and server != self._server_name}
        if not unknown:
            return
        loaded = await self._store.load(unknown)
        for server in unknown:
            # What a flight learnt meanwhile is merged, not lost.
            self._learn(server, loaded.get(server, {}))

    def _begin(self, server: str, needs: Iterable[KeyNeed]) -> asyncio.Task[None]:
        wanted = self._wanted.setdefault(server, {})
        for need in needs:
            if len(wanted) < _WANTED_MAX:
                wanted[need.key_id] = max(need.until_ms, wanted.get(need.key_id, 0))
        return self._flights.begin(server, lambda: self._fetch(server))

    async def _fetch(self, server: str) -> None:
        """One round of asking: the server, then notaries for what is still lacking. In a context of its own."""
        structlog.contextvars.bind_contextvars(key_server=server)
        try:
            reached = await self._fetch_direct(server)
            lacking = self._lacking(server)
            if lacking and self._fetcher.asks_notaries_for(server):
                fetched = await self._fetcher.from_notaries(server, lacking)
                await self._keep(server, fetched)
            self._close(server, reached=reached)
        finally:
            self._wanted.pop(server, None)

    async def _fetch_direct(self, server: str) -> bool:
        try:
            fetched = await self._fetcher.direct(server)
        except KeyFetchFailed as error:
            _log.info("keys of a server cannot be had from it", reason=str(error))
            return False
        await self._keep(server, [fetched])
        return True

    async def _keep(self, server: str, fetched: list[FetchedKeys]) -> None:
        fetched = [item for item in fetched if item.keys.server == server]
        if not fetched:
            return
        # On the log before anything is believed by it.
        await self._store.save(fetched)
        for item in fetched:
            self._learn(server, item.known())

    def _learn(self, server: str, found: Mapping[str, KnownKey]) -> None:
        known = self._keys.pop(server, {})
        self._keys[server] = merged(known, found)
        while len(self._keys) > _SERVERS_MAX:
            del self._keys[next(iter(self._keys))]

    def _lacking(self, server: str) -> dict[str, int]:
        wanted = self._wanted.get(server, {})
        return {
            key_id: until_ms
            for key_id, until_ms in wanted.items()
            if self.known(KeyNeed(server, key_id, until_ms)) is None
        }

    def _is_open(self, server: str) -> bool:
        closed = self._closed.get(server)
        return closed is None or self._now_ms() >= closed.until_ms or self._flights.under_way(server)

    def _close(self, server: str, *, reached: bool) -> None:
        now_ms, before = self._now_ms(), self._closed.pop(server, None)
        if reached:
            self._closed[server] = _Closed(now_ms + REFETCH_AFTER_MS, None)
        else:
            backoff = after_failure(before.failing if before else None, now_ms, self._chance(), FAILURES)
            self._closed[server] = _Closed(backoff.retry_at_ms, backoff)
        while len(self._closed) > _SERVERS_MAX:
            del self._closed[next(iter(self._closed))]

    def _missing(self, need: KeyNeed) -> KeyMissing:
        closed, key = self._closed.get(need.server), self._keys.get(need.server, {}).get(need.key_id)
        retry_at_ms = closed.until_ms if closed else self._now_ms()
        if key is not None and not key.is_current:
            # Its server has retired it: nothing can make it valid later.
            return KeyMissing(Lack.NOT_VALID, None)
        if closed is None or closed.failing is not None:
            return KeyMissing(Lack.UNREACHABLE, retry_at_ms)
        return KeyMissing(Lack.NOT_VALID if key is not None else Lack.NOT_PUBLISHED, retry_at_ms)
