"""A third-party invite of ours, redeemed by a user of another server or of ours."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.signing import SigningKey, sign_json
from tests.support.remote_server import RemoteServer
from tests.support.server import LiveServer, User, quoted

IDENTITY = SigningKey("ed25519:0", b"\3" * 32)


def invited_by_mail(alice: User, **fields: Any) -> str:
    """A room with a third-party invite of alice's, whose token is `abc`."""
    room_id = alice.create_room(**fields)
    content = {
        "display_name": "b...",
        "public_key": IDENTITY.verify_key.base64,
        "key_validity_url": "https://x.example",
    }
    alice.set_state(room_id, "m.room.third_party_invite", content, "abc")
    return room_id


def partial(alice: User, room_id: str, target: str, **changes: Any) -> dict[str, Any]:
    signed = sign_json({"mxid": target, "token": "abc"}, "id.example", IDENTITY)
    content = {"membership": "invite", "third_party_invite": {"display_name": "b...", "signed": signed}}
    event = {"type": "m.room.member", "room_id": room_id, "sender": alice.id, "state_key": target, "content": content}
    return {**event, **changes}


def exchange(remote: RemoteServer, room_id: str, event: dict[str, Any]) -> tuple[int, Any]:
    return remote.call("PUT", f"/_matrix/federation/v1/exchange_third_party_invite/{quoted(room_id)}", event)


def test_a_user_of_ours_is_invited_by_the_proof(server: LiveServer) -> None:
    alice, bob, remote = server.user("alice"), server.user("bob"), RemoteServer(server)
    room_id = invited_by_mail(alice)
    event = partial(alice, room_id, bob.id)
    assert exchange(remote, room_id, {**event, "content": {**event["content"], "displayname": "Mallory"}}) == (200, {})
    path = f"/rooms/{quoted(room_id)}/state/m.room.member/{quoted(bob.id)}"
    assert alice.do("GET", path) == event["content"], "nothing but the proof is in it"
    assert room_id in bob.sync()["rooms"]["invite"]


def test_what_is_no_proof(server: LiveServer) -> None:
    alice, bob, remote = server.user("alice"), server.user("bob"), RemoteServer(server)
    room_id = invited_by_mail(alice)
    good = partial(alice, room_id, bob.id)
    forged = sign_json({"mxid": bob.id, "token": "abc"}, "id.example", SigningKey("ed25519:0", b"\4" * 32))
    third = {"display_name": "b...", "signed": forged}
    cases: list[tuple[dict[str, Any], int]] = [
        ({**good, "room_id": "!another:test"}, 400),
        ({**good, "type": "m.room.topic"}, 400),
        ({**good, "content": {"membership": "join"}}, 400),
        ({**good, "content": {"membership": "invite"}}, 400),
        ({**good, "sender": remote.user()}, 400),
        ({**good, "state_key": 1}, 400),
        ({**good, "sender": bob.id}, 403),
        ({**good, "state_key": server.user("carol").id}, 403),
        ({**good, "content": {"membership": "invite", "third_party_invite": third}}, 403),
    ]
    for event, status in cases:
        assert exchange(remote, room_id, event)[0] == status, event
    assert exchange(remote, "!nowhere:test", {**good, "room_id": "!nowhere:test"})[0] == 404
    alice.set_state(room_id, "m.room.server_acl", {"allow": ["test"]})
    assert exchange(remote, room_id, good)[0] == 403


@pytest.mark.parametrize("how", ["invite", "state"])
def test_who_blocks_invites_gets_none_of_our_users_either(server: LiveServer, how: str) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    path = f"/user/{quoted(bob.id)}/account_data/m.invite_permission_config"
    bob.do("PUT", path, {"default_action": "block"})
    room_id = alice.create_room()
    if how == "invite":
        status, answer = alice.call("POST", f"/rooms/{quoted(room_id)}/invite", {"user_id": bob.id})
    else:
        member = f"/rooms/{quoted(room_id)}/state/m.room.member/{quoted(bob.id)}"
        status, answer = alice.call("PUT", member, {"membership": "invite"})
    assert (status, answer["errcode"]) == (403, "M_INVITE_BLOCKED")
    bob.do("PUT", path, {})
    alice.do("POST", f"/rooms/{quoted(room_id)}/invite", {"user_id": bob.id})
