"""What a sync shows of rooms whose state we do not have: invites, knocks, and what became of them."""

from __future__ import annotations

from typing import Any

import pytest

from annals.ingest.resident.member_events import HandedIn
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.events import Event
from annals.rooms.heads import fact_of
from annals.schemas.facts.rooms import MembershipReceived
from tests.support.patience import PATIENCE_S
from tests.support.remote_server import RemoteServer
from tests.support.room_elsewhere import RoomElsewhere
from tests.support.server import LiveServer, User, quoted
from tests.support.server_fixtures import log_backend, on_both_logs, server
from tests.support.waiting_sync import woken

__all__ = ["log_backend", "server"]


def take(server: LiveServer, event: Event, state: Any = ()) -> None:
    """Log a membership out of band, as if a handshake or a transaction had brought it."""
    made = fact_of(event, server.house.appender.envelope())
    fact = MembershipReceived(
        envelope=made.envelope,
        room_id=made.room_id,
        event_id=made.event_id,
        room_version=made.room_version,
        skeleton=made.skeleton,
        body=made.body,
        origin="remote.invalid",
        via="test",
        signatures=(),
        content_hash_ok=True,
        room_state=canonical_bytes(list(state)),
        handshake_id=None,
    )
    server.on_loop(server.house.appender.submit_and_settle([fact], PATIENCE_S))


def invite(room: RoomElsewhere, user: User, **content: Any) -> Event:
    event = room.invitation(user.id, **content)
    status, answer = room.hand_in(event)
    assert status == 200, answer
    return event


def names(section: dict[str, Any], kind: str) -> dict[str, Any]:
    return {event["type"]: event["content"] for event in section[f"{kind}_state"]["events"]}


@pytest.mark.parametrize("version", ["1", "10", "12"])
def test_an_invite(server: LiveServer, version: str) -> None:
    bob, room = server.user("bob"), RoomElsewhere(RemoteServer(server), version)
    since = bob.sync()["next_batch"]
    event = invite(room, bob, reason="do come")
    for answer in (bob.sync(since, timeout=0), bob.sync(), bob.sync(since, full_state="true")):
        assert answer["rooms"].keys() == {"invite"}
        shown = names(answer["rooms"]["invite"][room.room_id], "invite")
        assert shown["m.room.name"] == {"name": "Elsewhere"}
        assert shown["m.room.create"]["room_version"] == version
        assert shown["m.room.member"] == event.content
        for entry in answer["rooms"]["invite"][room.room_id]["invite_state"]["events"]:
            assert entry.keys() == {"type", "state_key", "sender", "content"}
    later = bob.sync(since)["next_batch"]
    assert "rooms" not in bob.sync(later, timeout=0), "it is told once"
    assert bob.do("GET", "/joined_rooms") == {"joined_rooms": []}


@on_both_logs
def test_an_invite_wakes_who_waits(server: LiveServer) -> None:
    bob, room = server.user("bob"), RoomElsewhere(RemoteServer(server))
    since = bob.sync()["next_batch"]
    event = room.invitation(bob.id)
    handed = HandedIn(room.remote.name, room.room_id, event.event_id, event.pdu, "test")
    receive = server.services.invites.receive
    answer = woken(bob, since, lambda: server.on_loop(receive(handed, "12", room.shown())))
    assert list(answer["rooms"]["invite"]) == [room.room_id]


@pytest.mark.parametrize("membership", ["leave", "ban"])
def test_a_rescinded_invite(server: LiveServer, membership: str) -> None:
    bob, room = server.user("bob"), RoomElsewhere(RemoteServer(server))
    invited = invite(room, bob)
    since = bob.sync()["next_batch"]
    room.state[invited.key] = room.last = invited
    event = room.build("m.room.member", {"membership": membership}, bob.id)
    take(server, event)
    answer = bob.sync(since, timeout=0)
    assert answer["rooms"].keys() == {"leave"}
    [shown] = answer["rooms"]["leave"][room.room_id]["timeline"]["events"]
    assert (shown["event_id"], shown["content"]) == (event.event_id, {"membership": membership})
    assert "rooms" not in bob.sync(answer["next_batch"], timeout=0)
    assert "rooms" not in bob.sync(timeout=0)
    # Invited again.
    if membership == "leave":
        room.state[event.key] = room.last = event
        invite(room, bob)
        assert list(bob.sync(answer["next_batch"])["rooms"]["invite"]) == [room.room_id]


def test_a_knock(server: LiveServer) -> None:
    bob, remote = server.user("bob"), RemoteServer(server)
    room = RoomElsewhere(remote)
    since = bob.sync()["next_batch"]
    own = server.house.signer
    event = room.build(
        "m.room.member",
        {"membership": "knock"},
        bob.id,
        sender=bob.id,
        server_name=own.server_name,
        key=own.key,
    )
    name = {"type": "m.room.name", "state_key": "", "sender": room.creator, "content": {"name": "Elsewhere"}}
    take(server, event, [name])
    answer = bob.sync(since, timeout=0)
    assert answer["rooms"].keys() == {"knock"}
    shown = names(answer["rooms"]["knock"][room.room_id], "knock")
    assert shown == {"m.room.name": {"name": "Elsewhere"}, "m.room.member": {"membership": "knock"}}
    room.state[event.key] = room.last = event
    invite(room, bob)
    assert bob.sync(answer["next_batch"])["rooms"].keys() == {"invite"}


def set_account_data(user: User, kind: str, content: dict[str, Any]) -> None:
    user.do("PUT", f"/user/{quoted(user.id)}/account_data/{kind}", content)


def test_invites_of_ignored_users_and_while_all_are_blocked(server: LiveServer) -> None:
    bob, alice, room = server.user("bob"), server.user("alice"), RoomElsewhere(RemoteServer(server))
    invite(room, bob)
    here = alice.create_room(invite=[bob.id])
    assert set(bob.sync()["rooms"]["invite"]) == {room.room_id, here}
    set_account_data(bob, "m.ignored_user_list", {"ignored_users": {room.creator: {}}})
    assert set(bob.sync()["rooms"]["invite"]) == {here}
    set_account_data(bob, "m.ignored_user_list", {"ignored_users": {alice.id: {}}})
    assert set(bob.sync()["rooms"]["invite"]) == {room.room_id}
    set_account_data(bob, "m.ignored_user_list", {"ignored_users": "all"})
    assert set(bob.sync()["rooms"]["invite"]) == {room.room_id, here}
    set_account_data(bob, "m.invite_permission_config", {"default_action": "block"})
    assert "rooms" not in bob.sync()
    set_account_data(bob, "m.invite_permission_config", {})
    assert set(bob.sync()["rooms"]["invite"]) == {room.room_id, here}


def test_what_the_tables_hold_never_breaks_a_sync(server: LiveServer) -> None:
    bob, room = server.user("bob"), RoomElsewhere(RemoteServer(server))
    good = {"type": "m.room.name", "state_key": "", "sender": room.creator, "content": {}}
    event = room.invitation(bob.id)
    take(server, event, [1, None, [], {}, {"type": 1}, {**good, "state_key": None}, {**good, "content": 1}, good])
    entries = bob.sync()["rooms"]["invite"][room.room_id]["invite_state"]["events"]
    assert entries[0] == good
    assert [entry["type"] for entry in entries] == ["m.room.name", "m.room.member"]
