"""Where keys that were fetched are kept: the port of the keyring, and the one in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from annals.matrix.server_keys import KnownKey, ServerKeys, better_of, known_keys


@dataclass(frozen=True, slots=True)
class FetchedKeys:
    """An answer about a server's keys that passed every check."""

    keys: ServerKeys
    fetched_from: str
    """The server itself, or a notary."""
    fetched_at_ms: int
    answer: bytes
    """Canonical JSON, signatures included."""

    def known(self) -> dict[str, KnownKey]:
        """What it lets us believe, by key id."""
        return known_keys(self.keys, self.fetched_at_ms, is_direct=self.fetched_from == self.keys.server)


class KeyStore(Protocol):
    """Keys that outlive the process."""

    async def load(self, servers: Collection[str]) -> Mapping[str, Mapping[str, KnownKey]]:
        """What is kept of these servers: by server, by key id."""
        ...

    async def save(self, fetched: Sequence[FetchedKeys]) -> None:
        """Keep these; durable when this returns."""
        ...


class MemoryKeyStore:
    """A store for tests, and for as long as there is no other."""

    def __init__(self) -> None:
        self.saved: list[FetchedKeys] = []
        self._known: dict[str, dict[str, KnownKey]] = {}

    async def load(self, servers: Collection[str]) -> Mapping[str, Mapping[str, KnownKey]]:
        """See KeyStore."""
        return {server: dict(self._known[server]) for server in servers if server in self._known}

    async def save(self, fetched: Sequence[FetchedKeys]) -> None:
        """See KeyStore."""
        for item in fetched:
            self.saved.append(item)
            self._known[item.keys.server] = merged(self._known.get(item.keys.server, {}), item.known())


def merged(known: Mapping[str, KnownKey], found: Mapping[str, KnownKey]) -> dict[str, KnownKey]:
    """Both, by key id; where both have one, the better of them."""
    return {**known, **{key_id: better_of(known.get(key_id), key) for key_id, key in found.items()}}
