"""Keys that were fetched, as facts of topic `servers`: the store of the keyring that outlives everything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

from annals.database.pool import Database
from annals.ingest.key_store import FetchedKeys
from annals.matrix.server_keys import KnownKey
from annals.projectors.servers.read import keys_of
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.servers import ServerKeysFetched

LoadKeys = Callable[[Collection[str]], Awaitable[Mapping[str, Mapping[str, KnownKey]]]]
"""Known keys of servers, by server and key id, as the projection has them."""


def keys_in(database: Database) -> LoadKeys:
    """Keys from the tables of the serving generation."""

    async def load(servers: Collection[str]) -> Mapping[str, Mapping[str, KnownKey]]:
        return await database.read(lambda snapshot: keys_of(snapshot, servers))

    return load


class FactWriter(Protocol):
    """How facts get on the log; durable when `submit` returns."""

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        """The envelope of a fact that is written now."""
        ...

    async def submit(self, facts: Sequence[Fact]) -> object:
        """Append the facts."""
        ...


class FactKeyStore:
    """KeyStore: saves on the log, loads from the tables.

    The tables follow a little later; the keyring remembers what it saved itself, and another process asks again.
    """

    def __init__(self, writer: FactWriter, load: LoadKeys) -> None:
        self._writer, self._load = writer, load

    async def load(self, servers: Collection[str]) -> Mapping[str, Mapping[str, KnownKey]]:
        """See KeyStore."""
        return await self._load(servers)

    async def save(self, fetched: Sequence[FetchedKeys]) -> None:
        """See KeyStore."""
        facts = [
            ServerKeysFetched(
                envelope=self._writer.envelope(cause=f"keys of {item.keys.server}"),
                server_name=item.keys.server,
                fetched_from=item.fetched_from,
                fetched_at_ms=item.fetched_at_ms,
                answer=item.answer,
            )
            for item in fetched
        ]
        await self._writer.submit(facts)
