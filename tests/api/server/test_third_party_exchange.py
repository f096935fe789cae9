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


def bound(server: LiveServer, user: User, *invites: Any, **changes: Any) -> tuple[int, Any]:
    body = {"medium": "email", "address": "b@x.example", "mxid": user.id, "invites": list(invites), **changes}
    return server.call("PUT", "/_matrix/federation/v1/3pid/onbind", body)


def handed_over(sender: str, room_id: str, target: str, **changes: Any) -> dict[str, Any]:
    """An invite as an identity server hands it over."""
    signed = sign_json({"mxid": target, "token": "abc"}, "id.example", IDENTITY)
    named = {"medium": "email", "address": "b@x.example", "mxid": target, "room_id": room_id, "sender": sender}
    return {**named, "signed": signed, **changes}


def test_an_identity_server_hands_over_the_invites_that_waited(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    first, second, other = invited_by_mail(alice), invited_by_mail(alice), alice.create_room()
    # One that fails keeps no other back, and is what is answered.
    invites = [handed_over(alice.id, room_id, bob.id) for room_id in (first, other, second)]
    assert bound(server, bob, *invites)[0] == 403
    assert {first, second} == bob.sync()["rooms"]["invite"].keys()
    content = alice.do("GET", f"/rooms/{quoted(first)}/state/m.room.member/{quoted(bob.id)}")
    assert content["third_party_invite"]["display_name"] == "b..."
    carol = server.user("carol")
    third = invited_by_mail(alice)
    assert bound(server, carol, handed_over(alice.id, third, carol.id)) == (200, {})
    assert bound(server, carol) == (200, {})


def test_what_an_identity_server_must_not_say(server: LiveServer) -> None:
    alice, bob, carol = server.user("alice"), server.user("bob"), server.user("carol")
    room_id = invited_by_mail(alice)
    good = handed_over(alice.id, room_id, bob.id)
    forged = sign_json({"mxid": bob.id, "token": "abc"}, "id.example", SigningKey("ed25519:0", b"\4" * 32))
    bad: list[tuple[Any, int]] = [
        (7, 400),
        ({}, 400),
        ({**good, "signed": {}}, 400),
        ({**good, "signed": {**good["signed"], "mxid": carol.id}}, 400),
        ({**good, "room_id": "x"}, 400),
        ({**good, "sender": "x"}, 400),
        ({**good, "sender": carol.id}, 403),
        ({**good, "signed": forged}, 403),
        ({**good, "room_id": "!nowhere:test"}, 404),
        # Its sender's server is asked, and is not there.
        ({**good, "sender": "@x:remote.invalid"}, 502),
    ]
    for invite, status in bad:
        assert bound(server, bob, invite)[0] == status, invite
    odd: list[dict[str, Any]] = [{"mxid": "@x:elsewhere"}, {"mxid": 5}, {"invites": {}}, {"invites": [good] * 21}]
    for changes in odd:
        assert bound(server, bob, **changes)[0] == 400, changes
    assert bound(server, bob, mxid="@nobody:test")[0] == 404
    assert "rooms" not in bob.sync()
