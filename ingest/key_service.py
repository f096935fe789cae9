"""A keyring over the network, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import SystemRandom

from annals.federation.client import FederationClient
from annals.ingest.key_fetching import HttpKeyFetcher, Notary
from annals.ingest.key_store import KeyStore
from annals.ingest.keyring import KeyNeed, Keyring
from annals.matrix.server_keys import KnownKey
from annals.matrix.signing import SigningKey, VerifyKey


def open_keyring(
    client: FederationClient,
    server_name: str,
    own: Iterable[SigningKey],
    store: KeyStore,
    notaries: Sequence[Notary],
    now_ms: Callable[[], int],
    chance: Callable[[], float] | None = None,
    retired: Iterable[tuple[VerifyKey, int]] = (),
) -> Keyring:
    """A keyring that asks servers themselves and these notaries; the keys of a notary come from the keyring too."""

    async def key_of(server: str, key_id: str) -> VerifyKey | None:
        need = KeyNeed(server, key_id, now_ms())
        found = (await keyring.keys([need]))[need]
        # What a notary says now it signs with a key of now.
        return found.key if isinstance(found, KnownKey) and found.is_current else None

    fetcher = HttpKeyFetcher(client, notaries, key_of, now_ms)
    keyring = Keyring(server_name, own, store, fetcher, now_ms, chance or SystemRandom().random, retired=retired)
    return keyring
