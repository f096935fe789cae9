"""Asking for keys: the server itself (`/_matrix/key/v2/server`), and notaries (`/_matrix/key/v2/query`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any

import structlog

from annals.federation.client import FederationClient
from annals.federation.errors import FederationError
from annals.federation.settings import KEYS_BYTES_MAX
from annals.ingest.key_store import FetchedKeys
from annals.ingest.keyring import KeyFetchFailed
from annals.matrix.canonical_json import canonical_bytes, loads
from annals.matrix.errors import MatrixError
from annals.matrix.server_keys import KeysInvalid, read_server_keys
from annals.matrix.signing import VerifyKey, signature_key_ids, verify_json

_log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0
_AT_ONCE_MAX = 64
_SERVERS_A_QUERY = 100
_NOTARY_BYTES_MAX = 4 << 20

KeyOf = Callable[[str, str], Awaitable[VerifyKey | None]]
"""The key of a server (name, key id) that signs today; None where it cannot be had."""


@dataclass(frozen=True, slots=True)
class Notary:
    """A server whose word on the keys of others is taken. Without `keys` its own are asked of itself."""

    server: str
    keys: tuple[VerifyKey, ...] = ()


class HttpKeyFetcher:
    """KeyFetcher, over the network."""

    def __init__(
        self, client: FederationClient, notaries: Sequence[Notary], key_of: KeyOf, now_ms: Callable[[], int]
    ) -> None:
        self._client, self._now_ms = client, now_ms
        self._at_once = asyncio.Semaphore(_AT_ONCE_MAX)
        self._notaries = {notary.server: _NotaryQueue(notary, client, key_of, now_ms) for notary in notaries}

    async def direct(self, server: str) -> FetchedKeys:
        """See KeyFetcher."""
        async with self._at_once:
            try:
                body = await self._client.ask(
                    server,
                    "GET",
                    "/_matrix/key/v2/server",
                    timeout_s=TIMEOUT_S,
                    bytes_max=KEYS_BYTES_MAX,
                    signed=False,
                )
                return checked(loads(body), server, server, self._now_ms())
            except (FederationError, MatrixError) as error:
                raise KeyFetchFailed(str(error)) from error

    def asks_notaries_for(self, server: str) -> bool:
        """See KeyFetcher. A notary's own keys are asked of itself alone: two that vouch for each other vouch for none,
        and would wait for each other."""
        return bool(self._notaries) and server not in self._notaries

    async def from_notaries(self, server: str, wanted: Mapping[str, int]) -> list[FetchedKeys]:
        """See KeyFetcher."""
        answers = await asyncio.gather(*(queue.ask(server, wanted) for queue in self._notaries.values()))
        return [item for answer in answers for item in answer]


class _NotaryQueue:
    """One notary: one query under way; what is wanted meanwhile goes together into the next."""

    def __init__(self, notary: Notary, client: FederationClient, key_of: KeyOf, now_ms: Callable[[], int]) -> None:
        self._notary, self._client, self._key_of, self._now_ms = notary, client, key_of, now_ms
        self._waiting: dict[str, tuple[Mapping[str, int], asyncio.Future[list[FetchedKeys]]]] = {}
        self._working: asyncio.Task[None] | None = None

    async def ask(self, server: str, wanted: Mapping[str, int]) -> list[FetchedKeys]:
        """What the notary says of the server. The keyring asks for a server once at a time."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[FetchedKeys]] = loop.create_future()
        self._waiting[server] = (wanted, answer)
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._work(), context=Context())
        return await answer

    async def _work(self) -> None:
        while self._waiting:
            batch = {server: self._waiting.pop(server) for server in list(self._waiting)[:_SERVERS_A_QUERY]}
            try:
                found = await self._query({server: wanted for server, (wanted, _) in batch.items()})
            except (FederationError, MatrixError) as error:
                _log.warning("a notary does not answer", notary=self._notary.server, reason=str(error))
                found = {}
            except BaseException as error:
                for _, answer in batch.values():
                    if not answer.done():
                        answer.set_exception(KeyFetchFailed(f"asking a notary failed: {error!r}"))
                raise
            for server, (_, answer) in batch.items():
                if not answer.done():
                    answer.set_result(found.get(server, []))

    async def _query(self, wanted: Mapping[str, Mapping[str, int]]) -> dict[str, list[FetchedKeys]]:
        criteria = {
            server: {key_id: {"minimum_valid_until_ts": until_ms or self._now_ms()} for key_id, until_ms in ids.items()}
            for server, ids in wanted.items()
        }
        body = await self._client.ask(
            self._notary.server,
            "POST",
            "/_matrix/key/v2/query",
            content={"server_keys": criteria},
            timeout_s=TIMEOUT_S,
            bytes_max=_NOTARY_BYTES_MAX,
        )
        value = loads(body)
        items = value.get("server_keys") if type(value) is dict else None
        found: dict[str, list[FetchedKeys]] = {}
        for item in items if type(items) is list else []:
            try:
                fetched = await self._checked(item, wanted)
            except MatrixError as error:
                _log.warning("a notary's answer does not pass", notary=self._notary.server, reason=str(error))
                continue
            found.setdefault(fetched.keys.server, []).append(fetched)
        return found

    async def _checked(self, item: Any, wanted: Mapping[str, object]) -> FetchedKeys:
        server = item.get("server_name") if type(item) is dict else None
        if type(server) is not str or server not in wanted:
            raise KeysInvalid("an answer that nobody asked for")
        for key_id in signature_key_ids(item, self._notary.server):
            key = await self._key(key_id)
            if key is not None:
                verify_json(item, self._notary.server, key)
                return checked(item, server, self._notary.server, self._now_ms())
        raise KeysInvalid("not signed by the notary")

    async def _key(self, key_id: str) -> VerifyKey | None:
        if self._notary.keys:
            return next((key for key in self._notary.keys if key.key_id == key_id), None)
        return await self._key_of(self._notary.server, key_id)


def checked(answer: Any, server: str, fetched_from: str, now_ms: int) -> FetchedKeys:
    """The answer, if it is one about this server, signed by itself; raises `KeysInvalid`, `NotCanonical`."""
    keys = read_server_keys(answer)
    if keys.server != server:
        raise KeysInvalid(f"an answer about {keys.server}")
    text = canonical_bytes(answer)
    # It is going to be one record of the log.
    if len(text) > KEYS_BYTES_MAX - 4096:
        raise KeysInvalid("larger than a record of the log")
    return FetchedKeys(keys, fetched_from, now_ms, text)
