"""A homeserver of a script: it serves what a test tells it, over TLS on loopback, signed by the reference library.

It knows no room. A test says what it answers (`on`), and looks at what it was asked (`requests`). It can lie (any key,
any signature), wait (a `gate`), answer too much, and break off.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import signedjson.key
import signedjson.sign
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from annals.federation.addresses import AddressFilter
from annals.federation.client import FederationClient, Identity
from annals.federation.names import NameLookupFailed, Names, SrvRecord
from annals.federation.settings import FederationSettings
from annals.matrix.signing import SigningKey, encode_base64
from tests.support.certificate import make_certificate
from tests.support.patience import PATIENCE_S
from tests.support.patient_client import PatientClient

LOOPBACK = "127.0.0.1"
DAY_MS = 24 * 3600 * 1000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Authority:
    """A certificate authority of a test run."""

    cert: Path
    key: Path


def make_authority(folder: Path) -> Authority:
    """An authority whose files lie in `folder`."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority(folder / "ca.crt", folder / "ca.key")
    authority.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    authority.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    return authority


@dataclass(frozen=True)
class Received:
    """A request that the peer got."""

    method: str
    target: str
    headers: dict[str, str]
    content: Any
    sni: str | None


@dataclass
class FakeNames:
    """`Names` of a test: every host is on loopback unless the test says otherwise."""

    hosts: dict[str, list[str]] = field(default_factory=dict)
    srv: dict[str, list[SrvRecord]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)

    async def addresses(self, host: str) -> list[str]:
        """Loopback, or what the test said; names that end in `.invalid` are not there."""
        if host.endswith(".invalid"):
            raise NameLookupFailed(host)
        return self.hosts.get(host, [LOOPBACK])

    async def services(self, name: str) -> list[SrvRecord]:
        """What the test said; none otherwise."""
        self.asked.append(name)
        if name in self.dead:
            raise NameLookupFailed(name)
        return self.srv.get(name, [])


def reference_key(version: str, seed: bytes | None = None) -> Any:
    """A signing key of signedjson."""
    if seed is None:
        return signedjson.key.generate_signing_key(version)
    return signedjson.key.decode_signing_key_base64("ed25519", version, encode_base64(seed))


def public_base64(key: Any) -> str:
    """The public half of a key of signedjson, as published."""
    return str(signedjson.key.encode_verify_key_base64(signedjson.key.get_verify_key(key)))


class ScriptedPeer:
    """One scripted server. `async with` it; its name is `host:port`."""

    def __init__(self, authority: Authority, folder: Path, host: str = "peer.example") -> None:
        self.host, self.port = host, 0
        self.keys: list[Any] = [reference_key("a_1")]
        self.old_keys: dict[str, tuple[str, int]] = {}
        self.valid_for_ms = DAY_MS
        self.now_ms: Callable[[], int] = lambda: 1_700_000_000_000
        self.requests: list[Received] = []
        self.gate = asyncio.Event()
        """Answers wait for it; open unless a test clears it."""
        self.gate.set()
        self.vouched: dict[str, Callable[[], dict[str, Any] | None]] = {}
        """As a notary: by server name, the answer that it was given (not yet signed by us)."""
        self._authority, self._folder = authority, folder
        self._handlers: dict[tuple[str, str], Handler] = {}
        self._runner: web.AppRunner | None = None

    @property
    def name(self) -> str:
        """The server name."""
        return f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # No wait at shutdown: a handler that a test left hanging hangs for good.
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, 0, ssl_context=self.tls())
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def on(self, method: str, path: str, answer: Handler | dict[str, Any]) -> None:
        """What the peer answers to `method` on the path (without query)."""

        async def fixed(_: web.Request) -> web.StreamResponse:
            return web.json_response(answer)

        self._handlers[method, path] = fixed if isinstance(answer, dict) else answer

    def asked(self, path: str) -> list[Received]:
        """The requests for a path, without query."""
        return [request for request in self.requests if request.target.partition("?")[0] == path]

    def key_answer(self, *, sign: bool = True) -> dict[str, Any]:
        """What it publishes at /_matrix/key/v2/server."""
        answer: dict[str, Any] = {
            "server_name": self.name,
            "verify_keys": {f"{key.alg}:{key.version}": {"key": public_base64(key)} for key in self.keys},
            "old_verify_keys": {k: {"key": text, "expired_ts": ts} for k, (text, ts) in self.old_keys.items()},
            "valid_until_ts": self.now_ms() + self.valid_for_ms,
        }
        return self.sign(answer) if sign else answer

    def sign(self, value: dict[str, Any]) -> dict[str, Any]:
        """The object with a signature of each of our keys."""
        for key in self.keys:
            value = signedjson.sign.sign_json(value, self.name, key)
        return value

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        tls = request.transport.get_extra_info("ssl_object") if request.transport else None
        sni = getattr(tls, "annals_sni", None)
        content = json.loads(raw) if raw else None
        self.requests.append(Received(request.method, request.raw_path, dict(request.headers), content, sni))
        await self.gate.wait()
        handler = self._handlers.get((request.method, request.path)) or self._default(request)
        if handler is None:
            return web.json_response({"errcode": "M_UNRECOGNIZED", "error": "not in the script"}, status=404)
        return await handler(request)

    def _default(self, request: web.Request) -> Handler | None:
        async def own_keys(_: web.Request) -> web.StreamResponse:
            return web.json_response(self.key_answer())

        async def notary(got: web.Request) -> web.StreamResponse:
            asked = (await got.json())["server_keys"]
            found = [self.vouched[name]() for name in asked if name in self.vouched]
            return web.json_response({"server_keys": [self.sign(answer) for answer in found if answer is not None]})

        defaults: dict[tuple[str, str], Handler] = {
            ("GET", "/_matrix/key/v2/server"): own_keys,
            ("POST", "/_matrix/key/v2/query"): notary,
        }
        return defaults.get((request.method, request.path))

    def tls(self) -> ssl.SSLContext:
        """The TLS context of the peer, for a test that speaks for it."""
        cert, key = make_certificate(
            self.host, LOOPBACK, self._authority.cert, self._authority.key, self._folder / self.host
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key)

        def remember(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            tls.annals_sni = name  # type: ignore[attr-defined]

        context.sni_callback = remember
        return context


def a_client(
    authority: Authority,
    names: Names | None = None,
    *,
    patient: bool = False,
    server_name: str = "us.example",
    key: SigningKey | None = None,
    now_ms: Callable[[], int] = lambda: 1_700_000_000_000,
    **settings: Any,
) -> FederationClient:
    """A client that trusts the authority and may connect to loopback, and is patient with who does."""
    chosen = {
        "ca_files": (authority.cert,),
        "addresses": AddressFilter.of(allowed=["127.0.0.0/8"]),
        "connect_timeout_s": PATIENCE_S,
        "request_timeout_s": PATIENCE_S,
        **settings,
    }
    identity = Identity(server_name, key or SigningKey("ed25519:u_1", b"\7" * 32))
    kind = PatientClient if patient else FederationClient
    return kind(identity, FederationSettings(**chosen), now_ms, names or FakeNames(), lambda: 0.5)
