"""The client against a real TLS server: what it says there, what it accepts, where it does not go."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from annals.federation.addresses import AddressFilter
from annals.federation.client import FederationClient, path_of
from annals.federation.errors import (
    AddressRefused,
    AnswerLost,
    AnswerTooLarge,
    BadAnswer,
    FederationError,
    Refused,
    Unreachable,
)
from annals.federation.names import SrvRecord, SystemNames
from annals.matrix.signing import SigningKey
from annals.matrix.x_matrix import parse_authorization, verify
from tests.support.scripted_peer import Authority, FakeNames, ScriptedPeer, a_client, make_authority

KEY = SigningKey("ed25519:u_1", b"\7" * 32)
PATH = "/_matrix/federation/v1/thing/a%2Fb"

Scenario = Callable[[ScriptedPeer, FederationClient], Awaitable[None]]


def play(
    authority: Authority, folder: Path, scenario: Scenario, names: FakeNames | None = None, **changes: Any
) -> None:
    """Run a scenario with one peer and one client."""

    async def run() -> None:
        async with ScriptedPeer(authority, folder) as peer, a_client(authority, names, key=KEY, **changes) as client:
            await scenario(peer, client)

    asyncio.run(run())


def test_requests_are_signed_for_the_server_and_carry_its_name(authority: Authority, tmp_path: Path) -> None:
    async def scenario(peer: ScriptedPeer, client: FederationClient) -> None:
        peer.on("GET", "/_matrix/federation/v1/thing/a/b", {"got": 1})
        peer.on("PUT", "/_matrix/federation/v1/thing/a/b", {"put": 1})
        assert await client.get(peer.name, PATH, [("x", "y z"), ("n", 1)]) == {"got": 1}
        assert await client.put(peer.name, PATH, {"b": [1], "a": "é"}) == {"put": 1}
        got, put = peer.requests
        assert (got.target, put.content) == (PATH + "?x=y+z&n=1", {"b": [1], "a": "é"})
        for received in peer.requests:
            assert (received.headers["Host"], received.sni) == (peer.name, peer.host)
            claimed = parse_authorization(received.headers["Authorization"])
            assert (claimed.origin, claimed.destination) == ("us.example", peer.name)
            verify(claimed, peer.name, KEY.verify_key, received.method, received.target, received.content)

    play(authority, tmp_path, scenario)


def test_connections_are_used_again(authority: Authority, tmp_path: Path) -> None:
    ports = set()

    async def scenario(peer: ScriptedPeer, client: FederationClient) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            ports.add(request.transport.get_extra_info("peername") if request.transport else None)
            return web.json_response({})

        peer.on("GET", "/_matrix/x", answer)
        for _ in range(5):
            await client.get(peer.name, "/_matrix/x")

    play(authority, tmp_path, scenario)
    assert len(ports) == 1


def test_delegation_and_srv_decide_place_host_and_certificate(authority: Authority, tmp_path: Path) -> None:
    async def run() -> None:
        names = FakeNames()
        async with (
            ScriptedPeer(authority, tmp_path, "matrix.a.example") as peer,
            ScriptedPeer(authority, tmp_path, "a.example") as web_site,
        ):
            peer.on("GET", "/_matrix/x", {})
            web_site.on("GET", "/.well-known/matrix/server", {"m.server": "matrix.a.example"})
            names.srv["_matrix-fed._tcp.matrix.a.example"] = [
                SrvRecord(0, 0, 1, "dead.example"),
                SrvRecord(1, 0, peer.port, "machine-7.example"),
            ]
            async with a_client(authority, names, key=KEY, well_known_port=web_site.port) as client:
                await client.get("a.example", "/_matrix/x")
                await client.get("a.example", "/_matrix/x")
            assert len(web_site.requests) == 1
            received = peer.requests[0]
            assert (received.headers["Host"], received.sni) == ("matrix.a.example", "matrix.a.example")
            # "the server names from before delegation would take place are used"
            assert parse_authorization(received.headers["Authorization"]).destination == "a.example"

    asyncio.run(run())


@pytest.mark.parametrize("hops", [3, 50])
def test_redirects_of_well_known_are_followed_to_an_end(authority: Authority, tmp_path: Path, hops: int) -> None:
    async def run() -> None:
        async with ScriptedPeer(authority, tmp_path, "a.example") as site:

            async def well_known(request: web.Request) -> web.StreamResponse:
                at = int(request.query.get("hop", 0))
                if at == hops:
                    return web.json_response({"m.server": site.name})
                raise web.HTTPFound(f"/.well-known/matrix/server?hop={at + 1}")

            site.on("GET", "/.well-known/matrix/server", well_known)
            site.on("GET", "/_matrix/x", {})
            # Port 8448 of the name leads nowhere here: only the delegation does.
            async with a_client(authority, key=KEY, well_known_port=site.port) as client:
                if hops == 3:
                    await client.get("a.example", "/_matrix/x")
                else:
                    with pytest.raises(Unreachable):
                        await client.get("a.example", "/_matrix/x")
            assert len(site.asked("/.well-known/matrix/server")) == min(hops, 5) + 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "location",
    [
        "http://a.example:PORT/.well-known/x",
        "https://10.0.0.1/x",
        "https://inner.example:PORT/.well-known/x",
        "https://a.example:999999/x",
    ],
)
def test_redirects_lead_neither_inside_nor_out_of_tls(authority: Authority, tmp_path: Path, location: str) -> None:
    async def run() -> None:
        names = FakeNames(hosts={"inner.example": ["10.0.0.1"]})
        async with ScriptedPeer(authority, tmp_path, "a.example") as site:

            async def well_known(_: web.Request) -> web.StreamResponse:
                return web.Response(status=302, headers={"Location": location.replace("PORT", str(site.port))})

            site.on("GET", "/.well-known/matrix/server", well_known)
            site.on("GET", "/.well-known/x", {"m.server": site.name})
            async with a_client(authority, names, key=KEY, well_known_port=site.port) as client:
                with pytest.raises(Unreachable):
                    await client.get("a.example", "/_matrix/x")
            assert [request.target for request in site.requests] == ["/.well-known/matrix/server"]

    asyncio.run(run())


def test_a_huge_well_known_is_none(authority: Authority, tmp_path: Path) -> None:
    async def run() -> None:
        async with ScriptedPeer(authority, tmp_path, "a.example") as site:
            site.on("GET", "/.well-known/matrix/server", {"m.server": site.name, "more": "x" * 60_000})
            async with a_client(authority, key=KEY, well_known_port=site.port) as client:
                with pytest.raises(Unreachable):
                    await client.get("a.example", "/_matrix/x")

    asyncio.run(run())


@pytest.mark.parametrize("name", ["127.0.0.1", "inner.example", "mapped.example", "[::1]", "rebound.example"])
def test_no_request_reaches_an_address_of_our_own_house(authority: Authority, tmp_path: Path, name: str) -> None:
    """Checked on the address connected to: a name that looked public a moment ago is no way in."""

    class Rebinding(FakeNames):
        lookups = 0

        async def addresses(self, host: str) -> list[str]:
            type(self).lookups += host == "rebound.example"
            return ["127.0.0.1"] if self.lookups > 1 else await super().addresses(host)

    names = Rebinding(
        hosts={
            "inner.example": ["127.0.0.1"],
            "mapped.example": ["::ffff:127.0.0.1"],
            "rebound.example": ["192.0.2.1"],
        }
    )

    async def scenario(peer: ScriptedPeer, client: FederationClient) -> None:
        for _ in range(2):
            with pytest.raises(AddressRefused):
                await client.get(f"{name}:{peer.port}", "/_matrix/x")
        assert peer.requests == []

    play(authority, tmp_path, scenario, names, addresses=AddressFilter.of())


def test_delegation_to_an_inner_address_is_refused(authority: Authority, tmp_path: Path) -> None:
    async def run() -> None:
        async with ScriptedPeer(authority, tmp_path, "a.example") as site:
            site.on("GET", "/.well-known/matrix/server", {"m.server": "10.0.0.7:80"})
            async with a_client(authority, key=KEY, well_known_port=site.port) as client:
                with pytest.raises(AddressRefused):
                    await client.get("a.example", "/_matrix/x")

    asyncio.run(run())


def test_the_certificate_must_be_for_the_name_and_of_our_authority(authority: Authority, tmp_path: Path) -> None:
    async def run() -> None:
        stranger = make_authority(tmp_path / "stranger")
        async with ScriptedPeer(authority, tmp_path) as peer, ScriptedPeer(stranger, tmp_path / "s") as other:
            async with a_client(authority, key=KEY) as client:
                for name in (f"somebody.example:{peer.port}", other.name):
                    with pytest.raises(Unreachable, match=r"(?i)certificate"):
                        await client.get(name, "/_matrix/x")
            assert peer.requests == other.requests == []

    asyncio.run(run())


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(1000):
        await response.write(b"x" * 100_000)
    return response


async def _bomb(_: web.Request) -> web.StreamResponse:
    return web.Response(body=zlib.compress(b" " * 50_000_000), headers={"Content-Encoding": "deflate"})


async def _broken(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"a":')
    if request.transport is not None:
        request.transport.abort()
    return response


async def _no_json(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>")


async def _redirect(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("https://10.0.0.1/")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_endless, AnswerTooLarge),
        (_bomb, AnswerTooLarge),
        (_broken, AnswerLost),
        (_no_json, BadAnswer),
        (_redirect, Refused),
    ],
)
def test_bad_answers_are_errors_of_their_kind(
    authority: Authority, tmp_path: Path, answer: Any, error: type[FederationError]
) -> None:
    async def scenario(peer: ScriptedPeer, client: FederationClient) -> None:
        peer.on("GET", "/_matrix/x", answer)
        with pytest.raises(error):
            await client.get(peer.name, "/_matrix/x")
        peer.on("GET", "/_matrix/y", {})
        assert await client.get(peer.name, "/_matrix/y") == {}

    play(authority, tmp_path, scenario)


def test_an_announced_size_over_the_limit_is_not_read(authority: Authority, tmp_path: Path) -> None:
    async def scenario(peer: ScriptedPeer, client: FederationClient) -> None:
        peer.on("GET", "/_matrix/x", {"a": "x" * 1000})
        with pytest.raises(AnswerTooLarge):
            await client.get(peer.name, "/_matrix/x", bytes_max=1000)
        assert await client.get(peer.name, "/_matrix/x", bytes_max=1100)

    play(authority, tmp_path, scenario)


def test_a_refusal_says_why_and_whether_it_is_final(authority: Authority, tmp_path: Path) -> None:
    async def scenario(peer: ScriptedPeer, client: FederationClient) -> None:
        for status, final in ((403, True), (404, True), (401, False), (429, False), (502, False)):

            async def answer(_: web.Request, status: int = status) -> web.StreamResponse:
                return web.json_response({"errcode": "M_X", "error": "no", "retry_after_ms": 5}, status=status)

            peer.on("GET", "/_matrix/x", answer)
            with pytest.raises(Refused) as caught:
                await client.get(peer.name, "/_matrix/x")
            refused = caught.value
            assert (refused.status, refused.errcode, refused.message, refused.retry_after_ms) == (
                status,
                "M_X",
                "no",
                5,
            )
            assert refused.is_final is final

    play(authority, tmp_path, scenario)


def test_a_server_that_does_not_answer_is_unreachable(authority: Authority, tmp_path: Path) -> None:
    async def scenario(peer: ScriptedPeer, client: FederationClient) -> None:
        peer.on("GET", "/_matrix/x", {})
        # Of the time of the second request nothing goes by for connecting.
        await client.get(peer.name, "/_matrix/x")
        peer.gate.clear()
        with pytest.raises(Unreachable) as caught:
            await client.get(peer.name, "/_matrix/x", timeout_s=1.0)
        assert not caught.value.was_never_sent
        with pytest.raises(Unreachable) as caught:
            await client.get(f"{peer.host}:1", "/_matrix/x")
        assert caught.value.was_never_sent
        with pytest.raises(Unreachable):
            await client.get("nobody.invalid:80", "/_matrix/x")
        with pytest.raises(Unreachable):
            await client.get("us.example", "/_matrix/x")

    play(authority, tmp_path, scenario)


OK = b"HTTP/1.1 200 OK\r\n"
GARBAGE = {
    "nothing": b"",
    "no http": b"\x00\xff\x16\x03" * 50,
    "half a status": b"HTTP/1.1 2",
    "bad status": b"HTTP/1.1 9999 Fine\r\n\r\n",
    "endless header": OK + b"X: " + b"x" * 200_000,
    "endless headers": OK + b"X: x\r\n" * 100_000,
    "NUL in a header": OK + b"X: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "bad length": OK + b"Content-Length: -1\r\n\r\n{}",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "bad chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    "bad gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "other encoding": OK + b"Content-Encoding: br\r\nContent-Length: 2\r\n\r\n\xff\xfe",
    "not utf-8": OK + b'Content-Length: 4\r\n\r\n"\xff\xfe"',
    "deep": OK + b"Content-Length: 9000\r\n\r\n" + b"[" * 9000,
    "refusal of no shape": b'HTTP/1.1 403 No\r\nContent-Length: 16\r\n\r\n{"errcode":[{}]}',
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_any_bytes_are_an_error_of_ours(authority: Authority, tmp_path: Path, garbage: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(garbage)
            await writer.drain()
        writer.close()

    async def run() -> None:
        context = ScriptedPeer(authority, tmp_path).tls()
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        async with server, a_client(authority, key=KEY) as client:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(FederationError):
                await client.get(f"peer.example:{port}", "/_matrix/x")

    asyncio.run(run())


NO_HOSTS = ["a..b", ".", "...", "-", "0", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "x" * 64, "xn--", "127.0.0.1."]


@pytest.mark.parametrize("name", NO_HOSTS)
def test_names_that_are_no_hosts_are_unreachable(authority: Authority, tmp_path: Path, name: str) -> None:
    """Some of them are loopback to an operating system that is too kind; all are asked of a real one here."""

    async def run() -> None:
        names = SystemNames()
        async with ScriptedPeer(authority, tmp_path) as peer:
            async with a_client(authority, names, key=KEY, addresses=AddressFilter.of()) as client:
                with pytest.raises(Unreachable):
                    await client.get(f"{name}:{peer.port}", "/_matrix/x")
            assert peer.requests == []
        names.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "target", ["//evil.example/_matrix/x", "/_matrix/a%2Fb/%7e?x=%20&y=a+b&z=%C3%A9", "/_matrix/../x"]
)
def test_what_is_sent_is_what_was_signed(authority: Authority, tmp_path: Path, target: str) -> None:
    async def scenario(peer: ScriptedPeer, client: FederationClient) -> None:
        with pytest.raises(Refused):
            await client.get(peer.name, target)
        [received] = peer.requests
        assert received.target == target
        claimed = parse_authorization(received.headers["Authorization"])
        verify(claimed, peer.name, KEY.verify_key, "GET", received.target)

    play(authority, tmp_path, scenario)


def test_segments_of_a_path_stay_segments() -> None:
    assert path_of("federation", "v1", "event", "$a/b?c#d%") == "/_matrix/federation/v1/event/%24a%2Fb%3Fc%23d%25"
