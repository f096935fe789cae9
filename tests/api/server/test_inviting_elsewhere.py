"""Our users invite users of other servers, which sign the invite before anybody else hears of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from annals.database.snapshot import Snapshot
from annals.matrix.canonical_json import loads
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.signing import SigningKey, sign_event, verify_event
from tests.support.federating import (
    KEY,
    World,
    federating,
    invited,
    member_event,
    on_invites,
    parsed,
    signs_invites,
)
from tests.support.postgres import PostgresServer
from tests.support.scripted_peer import ScriptedPeer
from tests.support.server import User, quoted
from tests.support.spare_tables import spare_tables


@pytest.fixture(scope="module")
def world(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("inviting")
    with spare_tables(postgres).tables() as url, federating(url, folder) as made:
        yield made


def invite(user: User, room_id: str, target: str) -> tuple[int, Any]:
    return user.call("POST", f"/rooms/{quoted(room_id)}/invite", {"user_id": target})


def stored_pdu(world: World, room_id: str, event_id: str) -> dict[str, Any]:
    def read(snapshot: Snapshot) -> dict[str, Any]:
        sql = "SELECT federation_json FROM events WHERE room_id = %s AND event_id = %s"
        return dict(loads(snapshot.rows(sql, (room_id, event_id))[0][0]))

    return world.server.on_loop(world.server.database.read(read))


def refusing(status: int, errcode: str) -> Any:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"errcode": errcode, "error": "no"}, status=status)

    return refuse


@pytest.mark.parametrize("version", ["1", "6", "11", "12"])
def test_the_other_server_signs_first(world: World, version: str) -> None:
    alice, peer = world.server.user("alice"), world.peer()
    on_invites(peer, signs_invites(peer))
    room_id = alice.create_room(room_version=version, name="Room", topic="Talk")
    bob = f"@bob:{peer.name}"
    assert invite(alice, room_id, bob) == (200, {})
    [body] = invited(peer)
    assert body["room_version"] == version
    event = parsed(body["event"], version)
    assert (event.room_id, event.sender, event.state_key) == (room_id, alice.id, bob)
    assert {(pdu["type"], pdu["state_key"]) for pdu in body["invite_room_state"]} == {
        ("m.room.create", ""),
        ("m.room.join_rules", ""),
        ("m.room.name", ""),
        ("m.room.topic", ""),
        ("m.room.member", alice.id),
    }
    for pdu in body["invite_room_state"]:
        assert parsed(pdu, version).room_id == room_id, "full PDUs"
    held = member_event(world.server, alice.token, room_id, bob)
    assert held is not None
    assert (held["event_id"], held["content"]["membership"]) == (event.event_id, "invite")
    assert stored_pdu(world, room_id, event.event_id)["signatures"].keys() == {"test", peer.name}


def test_the_old_path_for_the_oldest_rooms_only(world: World) -> None:
    alice, peer = world.server.user("alice"), world.peer()

    async def old(request: web.Request) -> web.StreamResponse:
        content = await request.json()
        content.pop("unsigned")
        return web.json_response([200, {"event": sign_event(content, ROOM_VERSIONS["1"], peer.name, KEY)}])

    on_invites(peer, old, "v1")
    first, later = alice.create_room(room_version="2"), alice.create_room(room_version="10")
    assert invite(alice, first, f"@bob:{peer.name}") == (200, {})
    assert len(invited(peer, "v2")) == len(invited(peer, "v1")) == 1
    assert invited(peer, "v1")[0]["unsigned"]["invite_room_state"]
    assert invite(alice, later, f"@bob:{peer.name}")[0] == 502
    assert len(invited(peer, "v1")) == 1


@pytest.mark.parametrize(
    ("status", "errcode", "told"),
    [
        (403, "M_FORBIDDEN", (403, "M_FORBIDDEN")),
        (403, "M_INVITE_BLOCKED", (403, "M_INVITE_BLOCKED")),
        (429, "M_LIMIT_EXCEEDED", (429, "M_LIMIT_EXCEEDED")),
        (400, "M_INCOMPATIBLE_ROOM_VERSION", (400, "M_UNSUPPORTED_ROOM_VERSION")),
        (400, "M_MISSING_PARAM", (502, "M_UNKNOWN")),
        (500, "M_UNKNOWN", (502, "M_UNKNOWN")),
    ],
)
def test_what_the_other_server_refuses(world: World, status: int, errcode: str, told: tuple[int, str]) -> None:
    alice, peer = world.server.user("alice"), world.peer()
    on_invites(peer, refusing(status, errcode))
    room_id, bob = alice.create_room(), f"@bob:{peer.name}"
    got, answer = invite(alice, room_id, bob)
    assert (got, answer["errcode"]) == told
    assert member_event(world.server, alice.token, room_id, bob) is None, "nothing was logged"


def test_a_server_that_is_not_there(world: World) -> None:
    alice = world.server.user("alice")
    room_id = alice.create_room()
    status, answer = invite(alice, room_id, "@bob:localhost:1")
    assert (status, answer["errcode"]) == (502, "M_UNKNOWN")
    assert member_event(world.server, alice.token, room_id, "@bob:localhost:1") is None


def lies(peer: ScriptedPeer) -> dict[str, Any]:
    async def unsigned(request: web.Request) -> web.StreamResponse:
        return web.json_response({"event": (await request.json())["event"]})

    async def nothing(_: web.Request) -> web.StreamResponse:
        return web.json_response({"event": 1})

    return {
        "not signed": unsigned,
        "no event": nothing,
        "another key": signs_invites(peer, SigningKey("ed25519:a_1", b"\6" * 32)),
        "another event": signs_invites(peer, origin_server_ts=5),
    }


@pytest.mark.parametrize("lie", ["not signed", "no event", "another key", "another event"])
def test_an_answer_that_is_not_our_event_with_a_signature(world: World, lie: str) -> None:
    alice, peer = world.server.user("alice"), world.peer()
    on_invites(peer, lies(peer)[lie])
    room_id, bob = alice.create_room(), f"@bob:{peer.name}"
    assert invite(alice, room_id, bob)[0] == 502
    assert member_event(world.server, alice.token, room_id, bob) is None


def test_content_that_the_other_server_made_up_is_not_taken(world: World) -> None:
    alice, peer = world.server.user("alice"), world.peer()

    async def adorn(request: web.Request) -> web.StreamResponse:
        content = await request.json()
        pdu = sign_event(content["event"], ROOM_VERSIONS[content["room_version"]], peer.name, KEY)
        pdu["content"]["displayname"], pdu["unsigned"] = "Mallory", {"age": 1}
        return web.json_response({"event": pdu})

    on_invites(peer, adorn)
    room_id, bob = alice.create_room(), f"@bob:{peer.name}"
    assert invite(alice, room_id, bob) == (200, {})
    held = member_event(world.server, alice.token, room_id, bob)
    assert held is not None
    assert held["content"] == {"membership": "invite"}
    pdu = stored_pdu(world, room_id, held["event_id"])
    verify_event({**pdu, **held_parts(held)}, ROOM_VERSIONS["12"], peer.name, KEY.verify_key)


def held_parts(held: dict[str, Any]) -> dict[str, Any]:
    return {key: held[key] for key in ("type", "state_key", "sender", "content", "room_id", "origin_server_ts")}


def test_nobody_is_asked_about_an_invite_that_the_room_forbids(world: World) -> None:
    alice, carol, peer = world.server.user("alice"), world.server.user("carol"), world.peer()
    room_id = alice.create_room(preset="public_chat")
    assert invite(carol, room_id, f"@bob:{peer.name}")[0] == 403
    carol.join(room_id)
    assert invite(carol, room_id, f"@bob:{peer.name}")[0] == 403, "a public room, where inviting takes power"
    assert peer.requests == []


def test_a_state_event_invites_too(world: World) -> None:
    alice, peer = world.server.user("alice"), world.peer()
    on_invites(peer, signs_invites(peer))
    room_id, bob = alice.create_room(), f"@bob:{peer.name}"
    alice.set_state(room_id, "m.room.member", {"membership": "invite", "reason": "do come"}, bob)
    assert [body["event"]["content"]["reason"] for body in invited(peer)] == ["do come"]


def test_a_new_room_with_users_of_other_servers(world: World) -> None:
    alice, carol, peer = world.server.user("alice"), world.server.user("carol"), world.peer()
    on_invites(peer, signs_invites(peer))
    bob, dead = f"@bob:{peer.name}", "@dan:localhost:1"
    room_id = alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[bob, carol.id, dead])
    held = member_event(world.server, alice.token, room_id, bob)
    assert held is not None
    assert held["content"] == {"membership": "invite", "is_direct": True}
    assert member_event(world.server, alice.token, room_id, carol.id) is not None
    assert member_event(world.server, alice.token, room_id, dead) is None, "whom nobody can reach is left out"


def test_the_room_goes_on_while_the_other_server_thinks(world: World) -> None:
    alice, peer = world.server.user("alice"), world.peer()
    room_id = alice.create_room()
    sign = signs_invites(peer)

    async def slowly(request: web.Request) -> web.StreamResponse:
        await world.server.services.rooms.send(room_id, alice.id, "m.room.message", {"body": "meanwhile"}, "test")
        return await sign(request)

    on_invites(peer, slowly)
    bob = f"@bob:{peer.name}"
    assert invite(alice, room_id, bob) == (200, {})
    held = member_event(world.server, alice.token, room_id, bob)
    assert held is not None
    assert held["content"]["membership"] == "invite"
    alice.say(room_id, "after")
    said = [event["content"].get("body") for event in alice.messages(room_id)["chunk"]]
    assert said[0] == "after"
    assert "meanwhile" in said


def test_an_invite_that_waited_is_made_by_its_senders_server(world: World) -> None:
    bob, peer = world.server.user("bob"), world.peer()
    room_id = "!room:elsewhere"
    start = "/_matrix/federation/v1/exchange_third_party_invite/"
    signed = {"mxid": bob.id, "token": "abc", "signatures": {"id.example": {"ed25519:0": "x"}}}
    invite = {"room_id": room_id, "sender": f"@alice:{peer.name}", "mxid": bob.id, "signed": signed}
    body = {"medium": "email", "address": "b@x.example", "mxid": bob.id, "invites": [invite]}
    for status, told in ((403, 403), (500, 502), (200, 200)):
        peer.on("PUT", start + room_id, refusing(status, "M_FORBIDDEN"))
        assert world.server.call("POST", "/_matrix/federation/v1/3pid/onbind", body)[0] == told
    asked = [request.content for request in peer.requests if request.target == start + quoted(room_id)]
    content = {"membership": "invite", "third_party_invite": {"signed": signed}}
    event = {"type": "m.room.member", "room_id": room_id, "sender": f"@alice:{peer.name}", "content": content}
    assert asked == [{**event, "state_key": bob.id}] * 3
