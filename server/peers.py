"""What a process needs for other servers: the client, the keyring, and who verifies events and requests."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import SystemRandom

from annals.database.pool import Database
from annals.federation.client import FederationClient, Identity
from annals.federation.policy import PolicyServers
from annals.ingest.key_facts import FactKeyStore, FactWriter, keys_in
from annals.ingest.key_fetching import Notary
from annals.ingest.key_service import open_keyring
from annals.ingest.keyring import Keyring
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.requests import RequestVerifier
from annals.rooms.heads import Signer
from annals.server.config import Config, ConfigError


@dataclass(frozen=True, slots=True)
class Peers:
    """One process's way to other servers. Inside of one event loop; `close` it."""

    client: FederationClient
    keyring: Keyring
    pdus: PduVerifier
    requests: RequestVerifier
    threads: ThreadPoolExecutor
    policy: PolicyServers

    async def close(self) -> None:
        """Close every connection."""
        await self.client.close()
        self.threads.shutdown(wait=False, cancel_futures=True)


def open_peers(
    config: Config, signer: Signer, writer: FactWriter, database: Database, now_ms: Callable[[], int]
) -> Peers:
    """Put it together; nothing is asked of anybody yet. Raises ConfigError for authorities that cannot be read."""
    section = config.federation
    try:
        client = FederationClient(Identity(signer.server_name, signer.key), section.settings(), now_ms)
    except OSError as error:  # ssl.SSLError among them
        raise ConfigError(f"federation.ca_files: {error}") from error
    store = FactKeyStore(writer, keys_in(database))
    notaries = [Notary(server) for server in section.notaries]
    keyring = open_keyring(
        client, signer.server_name, [signer.key], store, notaries, now_ms, retired=config.retired_keys()
    )
    threads = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="verify")
    requests = RequestVerifier(signer.server_name, keyring, now_ms)
    policy = PolicyServers(client, now_ms, SystemRandom().random)
    return Peers(client, keyring, PduVerifier(keyring, threads), requests, threads, policy)
