"""Keys, requests and PDUs end to end: keyring, fetcher and client against scripted peers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import signedjson.sign
from aiohttp import web

from annals.federation.client import FederationClient
from annals.ingest.key_fetching import Notary
from annals.ingest.key_service import open_keyring
from annals.ingest.key_store import MemoryKeyStore
from annals.ingest.keyring import KeyMissing, KeyNeed, Lack
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.requests import RequestRefused, RequestVerifier
from annals.ingest.verification import Candidate, KeyUnavailable, Quarantined, Reason, Verified
from annals.matrix.hashing import content_hash
from annals.matrix.redaction import redact
from annals.matrix.room_versions import V10
from annals.matrix.server_keys import KnownKey
from annals.matrix.signing import SigningKey, VerifyKey
from annals.matrix.x_matrix import authorization
from tests.support.patience import PATIENCE_S
from tests.support.scripted_peer import DAY_MS, Authority, ScriptedPeer, a_client, public_base64, reference_key

NOW_MS = 1_700_000_000_000
US = "us.example"
KEYS, QUERY = "/_matrix/key/v2/server", "/_matrix/key/v2/query"


class Us:
    """What we have of ingest."""

    def __init__(self, client: FederationClient, notaries: list[Notary], threads: ThreadPoolExecutor) -> None:
        self.now_ms, self.store = NOW_MS, MemoryKeyStore()
        own = [SigningKey("ed25519:u_1", b"\7" * 32)]
        self.keyring = open_keyring(client, US, own, self.store, notaries, lambda: self.now_ms, lambda: 0.5)
        self.pdus = PduVerifier(self.keyring, threads)
        self.requests = RequestVerifier(US, self.keyring, lambda: self.now_ms)

    async def key(self, server: str, key_id: str = "ed25519:a_1", until_ms: int = 0) -> KnownKey | KeyMissing:
        need = KeyNeed(server, key_id, until_ms)
        return (await self.keyring.keys([need]))[need]


Scenario = Callable[[Us, ScriptedPeer, ScriptedPeer], Awaitable[None]]


def play(authority: Authority, folder: Path, scenario: Scenario, *, notary: bool = False, pinned: bool = False) -> None:
    """Run a scenario with us and two peers, the second a notary if asked for."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            peer = await stack.enter_async_context(ScriptedPeer(authority, folder))
            other = await stack.enter_async_context(ScriptedPeer(authority, folder, "other.example"))
            client = await stack.enter_async_context(a_client(authority, patient=True))
            keys = (VerifyKey.from_base64("ed25519:a_1", public_base64(other.keys[0])),) if pinned else ()
            with ThreadPoolExecutor(1) as threads:
                us = Us(client, [Notary(other.name, keys)] if notary else [], threads)
                await scenario(us, peer, other)
                await us.keyring.close()

    asyncio.run(run())


def test_a_key_is_fetched_from_its_server_checked_and_kept(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: ScriptedPeer, _: ScriptedPeer) -> None:
        found = await asyncio.gather(*(us.key(peer.name) for _ in range(10)))
        assert all(isinstance(key, KnownKey) and key.key.base64 == public_base64(peer.keys[0]) for key in found)
        [request] = peer.requests
        assert (request.target, "Authorization" in request.headers) == (KEYS, False)
        [saved] = us.store.saved
        assert (saved.keys.server, saved.fetched_from, saved.fetched_at_ms) == (peer.name, peer.name, NOW_MS)

    play(authority, tmp_path, scenario)


async def _huge(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b" " * 100_000)


async def _deep(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"[" * 60_000)


async def _gone(_: web.Request) -> web.StreamResponse:
    return web.json_response({"errcode": "M_NOT_FOUND"}, status=404)


def _lying(change: Callable[[ScriptedPeer, dict[str, Any]], dict[str, Any]]) -> Callable[[ScriptedPeer], Any]:
    return lambda peer: change(peer, peer.key_answer())


@pytest.mark.parametrize(
    "lie",
    [
        lambda _: _huge,
        lambda _: _deep,
        lambda _: _gone,
        lambda peer: peer.key_answer(sign=False),
        _lying(lambda _, answer: {**answer, "valid_until_ts": answer["valid_until_ts"] + 1}),
        _lying(lambda _, answer: {**answer, "server_name": "victim.example"}),
        _lying(
            lambda _, answer: {**answer, "verify_keys": {"ed25519:a_1": {"key": public_base64(reference_key("x"))}}}
        ),
        _lying(lambda _, answer: {**answer, "verify_keys": []}),
    ],
)
def test_an_answer_that_does_not_pass_is_none(authority: Authority, tmp_path: Path, lie: Any) -> None:
    async def scenario(us: Us, peer: ScriptedPeer, _: ScriptedPeer) -> None:
        peer.on("GET", KEYS, lie(peer))
        missing = await us.key(peer.name)
        assert isinstance(missing, KeyMissing)
        assert missing.lack is Lack.UNREACHABLE
        assert us.store.saved == []

    play(authority, tmp_path, scenario)


@pytest.mark.parametrize("pinned", [False, True])
def test_a_notary_vouches_for_a_server_that_is_gone(authority: Authority, tmp_path: Path, pinned: bool) -> None:
    async def scenario(us: Us, peer: ScriptedPeer, notary: ScriptedPeer) -> None:
        peer.on("GET", KEYS, _gone)
        notary.vouched[peer.name] = peer.key_answer
        found = await us.key(peer.name, until_ms=NOW_MS - 5)
        assert isinstance(found, KnownKey)
        assert not found.is_direct
        [query] = notary.asked(QUERY)
        assert query.content == {"server_keys": {peer.name: {"ed25519:a_1": {"minimum_valid_until_ts": NOW_MS - 5}}}}
        assert len(notary.asked(KEYS)) == (0 if pinned else 1)

    play(authority, tmp_path, scenario, notary=True, pinned=pinned)


def test_what_many_servers_lack_goes_to_the_notary_in_few_queries(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: ScriptedPeer, notary: ScriptedPeer) -> None:
        needs = [KeyNeed(f"gone{i}.invalid:1", "ed25519:1") for i in range(30)]
        await us.keyring.keys(needs)
        queries = notary.asked(QUERY)
        assert len(queries) < 30
        assert sum(len(query.content["server_keys"]) for query in queries) == 30

    play(authority, tmp_path, scenario, notary=True, pinned=True)


def test_a_notary_cannot_lie(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: ScriptedPeer, notary: ScriptedPeer) -> None:
        stranger = reference_key("a_1")
        # Not signed by the server itself; not by the notary; about another server; about one that is known directly.
        for lie in (
            lambda: {**peer.key_answer(), "valid_until_ts": 5},
            lambda: {**peer.key_answer(), "server_name": "victim.example"},
        ):
            peer.on("GET", KEYS, _gone)
            notary.vouched[peer.name] = lie
            assert isinstance(await us.key(peer.name), KeyMissing)
            us.now_ms += DAY_MS

        async def unsigned(_: web.Request) -> web.StreamResponse:
            answer = peer.key_answer()
            other = {**answer["signatures"], notary.name: answer["signatures"][peer.name]}
            wrong = {**answer, "signatures": other}
            return web.json_response({"server_keys": [answer, wrong, {}, 7, {"server_name": 1}]})

        notary.on("POST", QUERY, unsigned)
        assert isinstance(await us.key(peer.name), KeyMissing)
        us.now_ms += DAY_MS
        peer.on("GET", KEYS, peer.key_answer())
        true_key = await us.key(peer.name)
        assert isinstance(true_key, KnownKey)
        us.now_ms += DAY_MS
        forged = {**peer.key_answer(sign=False), "verify_keys": {"ed25519:a_1": {"key": public_base64(stranger)}}}
        forged = signedjson.sign.sign_json({**forged, "valid_until_ts": us.now_ms + DAY_MS}, peer.name, stranger)

        async def lying(_: web.Request) -> web.StreamResponse:
            return web.json_response({"server_keys": [notary.sign(dict(forged))]})

        notary.on("POST", QUERY, lying)
        assert isinstance(await us.key(peer.name, until_ms=us.now_ms + 1), KeyMissing)
        again = await us.key(peer.name)
        assert isinstance(again, KnownKey)
        assert again.key == true_key.key

    play(authority, tmp_path, scenario, notary=True, pinned=True)


def test_two_notaries_that_vouch_for_each_other_do_not_wait_for_each_other(
    authority: Authority, tmp_path: Path
) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(ScriptedPeer(authority, tmp_path))
            two = await stack.enter_async_context(ScriptedPeer(authority, tmp_path, "other.example"))
            client = await stack.enter_async_context(a_client(authority, patient=True))
            for peer, other in ((one, two), (two, one)):
                peer.on("GET", KEYS, _gone)
                # Each has something to say that needs its own key to be believed.
                peer.vouched = {other.name: other.key_answer, "x.invalid:1": lambda: {"server_name": "x.invalid:1"}}
            with ThreadPoolExecutor(1) as threads:
                us = Us(client, [Notary(one.name), Notary(two.name)], threads)
                async with asyncio.timeout(PATIENCE_S):
                    found = await us.keyring.keys(
                        [KeyNeed(one.name, "ed25519:a_1"), KeyNeed("x.invalid:1", "ed25519:1")]
                    )
                assert all(isinstance(key, KeyMissing) for key in found.values())

    asyncio.run(run())


def header(peer: ScriptedPeer, key: Any = None, **changes: Any) -> str:
    key = key or peer.keys[0]
    ours = SigningKey(f"ed25519:{key.version}", bytes(key))
    request = {"origin": peer.name, "destination": US, "method": "PUT", "target": "/_matrix/x?y", "content": {"a": 1}}
    return authorization(key=ours, **{**request, **changes})


def test_requests_are_authenticated(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: ScriptedPeer, other: ScriptedPeer) -> None:
        async def origin(*headers: str) -> str:
            return await us.requests.origin_of("PUT", "/_matrix/x?y", headers, {"a": 1})

        assert await origin(header(peer)) == peer.name
        for bad in (
            [],
            ["Bearer x"],
            [header(peer, target="/_matrix/x")],
            [header(peer, content={"a": 2})],
            [header(peer, method="POST")],
            [header(peer, destination="other.example")],
            [header(peer, origin=other.name)],
            [header(peer, key=reference_key("a_1"))],
            [header(peer, key=reference_key("a_9"))],
            [header(peer, origin="gone.invalid:1")],
            [header(peer), header(other)],
        ):
            with pytest.raises(RequestRefused):
                await origin(*bad)
        assert len(peer.asked(KEYS)) == 1

    play(authority, tmp_path, scenario)


def test_an_old_or_expired_key_signs_no_request(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: ScriptedPeer, _: ScriptedPeer) -> None:
        old = reference_key("old")
        peer.old_keys["ed25519:old"] = (public_base64(old), NOW_MS + DAY_MS)
        with pytest.raises(RequestRefused):
            await us.requests.origin_of("PUT", "/_matrix/x?y", [header(peer, key=old)], {"a": 1})
        us.now_ms += DAY_MS + 1
        with pytest.raises(RequestRefused):
            await us.requests.origin_of("PUT", "/_matrix/x?y", [header(peer)], {"a": 1})
        peer.now_ms = lambda: us.now_ms
        us.now_ms += 60_000
        assert await us.requests.origin_of("PUT", "/_matrix/x?y", [header(peer)], {"a": 1}) == peer.name

    play(authority, tmp_path, scenario)


def event(peer: ScriptedPeer, key: Any = None, **changes: Any) -> dict[str, Any]:
    pdu: dict[str, Any] = {
        "type": "m.room.message",
        "sender": f"@a:{peer.name}",
        "room_id": "!r:x",
        "content": {"body": "hello"},
        "depth": 3,
        "origin_server_ts": NOW_MS,
        "prev_events": [],
        "auth_events": [],
        **changes,
    }
    pdu["hashes"] = {"sha256": content_hash(pdu, V10)}
    redacted = signedjson.sign.sign_json(redact(pdu, V10), peer.name, key or peer.keys[0])
    return {**pdu, "signatures": redacted["signatures"]}


def test_a_batch_is_verified_in_its_order_and_its_keys_are_asked_for_together(
    authority: Authority, tmp_path: Path
) -> None:
    async def scenario(us: Us, peer: ScriptedPeer, other: ScriptedPeer) -> None:
        batch = [event(peer, depth=i) for i in range(20)] + [event(other, depth=i) for i in range(20)]
        batch += [{}, event(peer, key=reference_key("a_1")), event(peer, key=reference_key("a_9"))]
        for _ in range(2):
            outcomes = await us.pdus.verify([Candidate(pdu, V10) for pdu in batch])
            kinds = [type(outcome) for outcome in outcomes]
            assert kinds == [Verified] * 40 + [Quarantined, Quarantined, KeyUnavailable]
            assert [o.event.depth for o in outcomes if isinstance(o, Verified)] == [*range(20), *range(20)]
            assert isinstance(outcomes[41], Quarantined)
            assert outcomes[41].reason is Reason.SIGNATURE_INVALID
        assert (len(peer.asked(KEYS)), len(other.asked(KEYS))) == (1, 1)

    play(authority, tmp_path, scenario)


def test_an_event_after_its_key_expired_is_refused_and_one_before_passes(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: ScriptedPeer, _: ScriptedPeer) -> None:
        old = reference_key("old")
        peer.old_keys["ed25519:old"] = (public_base64(old), NOW_MS - 1000)
        before, after = (
            event(peer, old, origin_server_ts=NOW_MS - 1000),
            event(peer, old, origin_server_ts=NOW_MS - 999),
        )
        first, second = await us.pdus.verify([Candidate(before, V10), Candidate(after, V10)])
        assert isinstance(first, Verified)
        assert isinstance(second, Quarantined)
        assert second.reason is Reason.KEY_NOT_VALID

    play(authority, tmp_path, scenario)


def test_one_thread_hop_where_every_key_is_known(authority: Authority, tmp_path: Path) -> None:
    class Counting(ThreadPoolExecutor):
        hops = 0

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            type(self).hops += 1
            return super().submit(*args, **kwargs)

    async def scenario(us: Us, peer: ScriptedPeer, _: ScriptedPeer) -> None:
        await us.key(peer.name)
        with Counting(1) as threads:
            await PduVerifier(us.keyring, threads).verify([Candidate(event(peer, depth=i), V10) for i in range(50)])
        assert Counting.hops == 1

    play(authority, tmp_path, scenario)
