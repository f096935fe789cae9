"""Requests that other servers sign (X-Matrix), against the app over a test's tables; no network.

asked = FederationApp(world.database)
status, body = asked.get("peer", "/state_ids/!room:test", event_id=event_id)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from typing import Any
from urllib.parse import quote, urlencode

from starlette.testclient import TestClient

from annals.api.app import make_app
from annals.api.services import ApiSettings, Services
from annals.database.pool import Database
from annals.ingest.key_store import MemoryKeyStore
from annals.ingest.keyring import Keyring
from annals.ingest.requests import RequestVerifier
from annals.matrix.server_keys import KnownKey
from annals.matrix.signing import SigningKey
from annals.matrix.x_matrix import authorization
from annals.queries.federation.devices import FederationDevices
from annals.queries.federation.reads import FederationReads
from annals.queries.hierarchy import Spaces
from annals.queries.public_rooms import PublicRooms

NOW_MS = 1_700_000_000_000
US = "test"
#: Every server of these tests signs with it.
PEER_KEY = SigningKey("ed25519:p_1", b"\5" * 32)
BASE = "/_matrix/federation/v1"


class _KnownToAll(MemoryKeyStore):
    """A store that has a key of every server."""

    async def load(self, servers: Any) -> Mapping[str, Mapping[str, KnownKey]]:
        key = KnownKey(PEER_KEY.verify_key, NOW_MS * 2, is_current=True, is_direct=True, fetched_at_ms=NOW_MS)
        return {server: {PEER_KEY.key_id: key} for server in servers}


class _NoFetcher:
    """Nobody is asked for keys."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a key was to be fetched: {name}")


def signed_header(
    origin: str, method: str, target: str, content: dict[str, Any] | None = None, destination: str = US
) -> str:
    """The value of the Authorization header of a server's request."""
    return authorization(origin, destination, PEER_KEY, method, target, content)


def verifier() -> RequestVerifier:
    """Believes every server that signs with PEER_KEY."""
    return RequestVerifier(
        US, Keyring(US, [], _KnownToAll(), _NoFetcher(), lambda: NOW_MS, lambda: 0.5), lambda: NOW_MS
    )


def app_services(database: Database, **given: Any) -> Services:
    """Services over the tables, as far as other servers need them; `given` adds to these."""
    known: dict[str, Any] = {
        "settings": ApiSettings(US, "0.0.1"),
        "clock": lambda: NOW_MS,
        "serving": lambda: True,
        "requests": verifier(),
        "federation_reads": FederationReads(database),
        "federation_devices": FederationDevices(database),
        "public_rooms": PublicRooms(database),
        "spaces": Spaces(database),
        **given,
    }
    needed = {wanted.name for wanted in fields(Services) if wanted.default is wanted.default_factory is MISSING}
    nothing: dict[str, Any] = dict.fromkeys(needed - known.keys())
    return Services(**nothing, **known)


class FederationApp:
    """The app, asked by servers. Answers are (status, JSON)."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def get(self, origin: str, path: str, query: Sequence[tuple[str, str]] = (), **more: Any) -> tuple[int, Any]:
        """GET of a path below /_matrix/federation/v1; `more` joins the query."""
        pairs = [*query, *((name, str(value)) for name, value in more.items())]
        return self.ask(origin, "GET", BASE + path + ("?" + urlencode(pairs) if pairs else ""))

    def post(self, origin: str, path: str, content: dict[str, Any]) -> tuple[int, Any]:
        """POST."""
        return self.ask(origin, "POST", BASE + path, content)

    def ask(self, origin: str, method: str, target: str, content: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Any signed request."""
        headers = {"Authorization": signed_header(origin, method, target, content)}
        response = self.client.request(method, target, json=content, headers=headers)
        return response.status_code, response.json()

    def raw(self, origin: str, target: str) -> tuple[int, bytes]:
        """The bytes that a GET answers."""
        response = self.client.get(target, headers={"Authorization": signed_header(origin, "GET", target)})
        return response.status_code, response.content


@contextmanager
def federation_app(database: Database, **given: Any) -> Iterator[FederationApp]:
    """The app over these tables."""
    with TestClient(make_app(app_services(database, **given))) as client:
        yield FederationApp(client)


def path(*segments: str) -> str:
    """Segments of a path, percent-encoded."""
    return "".join("/" + quote(segment, safe="") for segment in segments)
