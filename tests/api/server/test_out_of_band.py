"""PDUs of rooms that none of our users is in: an invite may be taken back by who shows that he has seen it."""

from __future__ import annotations

from typing import Any

import pytest

from annals.database.snapshot import Snapshot
from annals.ingest.pdu_facts import membership_received
from annals.ingest.verification import Verified
from annals.matrix.building import build_event
from annals.matrix.events import Event
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.rooms import HandshakeStarted, MembershipReceived
from tests.api.server.test_transactions import facts_of, quarantined, received
from tests.support.patience import PATIENCE_S
from tests.support.remote_server import RemoteServer, now_ms, verdict
from tests.support.server import LiveServer, User, quoted
from tests.support.server_fixtures import on_both_logs
from tests.support.waiting import until


def member(remote: RemoteServer, version: str, room_id: str, sender: str, target: str, **changes: Any) -> Event:
    """A member event of a room that only the other server has."""
    membership = changes.pop("membership")
    given: dict[str, Any] = {
        "room_id": room_id,
        "sender": sender,
        "type": "m.room.member",
        "content": {"membership": membership},
        "state_key": target,
        "prev_events": ["$" + "p" * 43],
        "auth_events": ["$" + "a" * 43],
        "depth": 9,
        "origin_server_ts": now_ms(),
        "server_name": remote.name,
        "key": remote.key,
        **changes,
    }
    hashes = dict.fromkeys([*given["prev_events"], *given["auth_events"]], "A" * 43)
    return build_event(ROOM_VERSIONS[version], reference_hashes=hashes, **given)


def invited(server: LiveServer, version: str = "10") -> tuple[User, RemoteServer, Event]:
    """alice, invited to a room of another server."""
    alice, remote = server.user("alice"), RemoteServer(server)
    invite = member(remote, version, f"!theirs:{remote.name}", remote.user("bob"), alice.id, membership="invite")
    path = f"/_matrix/federation/v2/invite/{quoted(invite.room_id)}/{quoted(invite.event_id)}"
    status, answer = remote.call("PUT", path, {"event": invite.pdu, "room_version": version, "invite_room_state": []})
    assert status == 200, answer
    return alice, remote, invite


def invites_of(user: User) -> set[str]:
    """The rooms that the user is invited to."""
    sql = "SELECT room_id FROM local_current_membership WHERE user_id = %s AND membership = 'invite'"

    def read(snapshot: Snapshot) -> set[str]:
        return {room_id for (room_id,) in snapshot.rows(sql, (user.id,))}

    return user.server.on_loop(user.server.database.read(read))


@pytest.mark.parametrize("version", ["1", "10", "11"])
@pytest.mark.parametrize("membership", ["leave", "ban"])
def test_an_invite_is_taken_back(server: LiveServer, version: str, membership: str) -> None:
    alice, remote, invite = invited(server, version)
    until(lambda: invites_of(alice) == {invite.room_id}, "the invite")
    back = member(
        remote,
        version,
        invite.room_id,
        invite.sender,
        alice.id,
        membership=membership,
        auth_events=["$" + "a" * 43, invite.event_id],
    )
    assert remote.send([back.pdu]) == (200, {"pdus": {back.event_id: {}}})
    until(lambda: invites_of(alice) == set(), "the invite to be gone")


def test_a_knock_is_refused(server: LiveServer) -> None:
    alice, remote, house = server.user("alice"), RemoteServer(server), server.house
    room_id = f"!closed:{remote.name}"
    knock = member(remote, "10", room_id, alice.id, alice.id, membership="knock")
    fact = membership_received(Verified(knock, (), True), house.appender.envelope(), remote.name, "send_knock", b"[]")
    server.on_loop(house.appender.submit_and_settle([fact], PATIENCE_S))
    before = alice.sync()
    assert room_id in before["rooms"]["knock"]
    cites = {"auth_events": [knock.event_id]}
    no = member(remote, "10", room_id, remote.user("admin"), alice.id, membership="leave", **cites)
    assert remote.send([no.pdu]) == (200, {"pdus": {no.event_id: {}}})

    def is_told() -> bool:
        return room_id in alice.sync(since=before["next_batch"]).get("rooms", {}).get("leave", {})

    until(is_told, "alice to be told")
    assert room_id not in alice.sync().get("rooms", {}).get("knock", {})


def test_who_does_not_cite_the_invite_takes_nothing_back(server: LiveServer) -> None:
    alice, remote, invite = invited(server)
    other = RemoteServer(server)
    room_id, cites = invite.room_id, {"auth_events": [invite.event_id]}
    wrong = [
        member(remote, "10", room_id, invite.sender, alice.id, membership="leave"),
        member(remote, "10", room_id, invite.sender, alice.id, membership="knock", **cites),
        member(remote, "10", room_id, invite.sender, server.user("carol").id, membership="leave", **cites),
        # Of a server that does not push it itself.
        member(other, "10", room_id, other.user(), alice.id, membership="leave", **cites),
        member(remote, "10", room_id, invite.sender, alice.id, membership="leave", type="m.room.x", **cites),
    ]
    pdus: list[Any] = [event.pdu for event in wrong]
    pdus += [{**pdus[0], "content": 7}, {**pdus[0], "sender": 7}, {"room_id": room_id}, {**pdus[0], "auth_events": 7}]
    assert remote.send(pdus) == (200, {"pdus": {}})
    assert [fact.event_id for fact in facts_of(server, "rooms", MembershipReceived) if fact.room_id == room_id] == [
        invite.event_id
    ]
    assert invites_of(alice) == {room_id}


def test_who_signs_in_anothers_name_takes_nothing_back(server: LiveServer) -> None:
    alice, remote, invite = invited(server)
    cites = {"auth_events": [invite.event_id], "key": RemoteServer(server).key}
    back = member(remote, "10", invite.room_id, invite.sender, alice.id, membership="leave", **cites)
    status, answer = remote.send([back.pdu])
    assert (status, list(answer["pdus"])) == (200, [back.event_id])
    assert "signature_invalid" in answer["pdus"][back.event_id]["error"]
    assert [(fact.event_id, fact.reason) for fact in quarantined(server, remote)] == [
        (back.event_id, "signature_invalid")
    ]
    assert invites_of(alice) == {invite.room_id}


def start_join(server: LiveServer, room_id: str, alice: User) -> None:
    """As the command does it."""
    appender = server.house.appender
    fact: Fact = HandshakeStarted(appender.envelope(), room_id, f"h-{room_id}", "join", alice.id, ("x.invalid",), b"{}")
    server.on_loop(appender.submit_and_settle([fact], PATIENCE_S))


def test_what_comes_for_a_room_that_is_being_joined_is_kept(server: LiveServer) -> None:
    alice, remote = server.user("alice"), RemoteServer(server)
    room_id, bob = f"!new:{remote.name}", remote.user("bob")
    start_join(server, room_id, alice)
    event = member(remote, "10", room_id, bob, bob, membership="join")
    # Nobody knows yet by which rules the event's id is made.
    assert remote.send([event.pdu]) == (200, {"pdus": {}})
    [fact] = quarantined(server, remote)
    assert (fact.reason, fact.room_version) == ("room_not_ready", None)
    assert isinstance(fact.original, bytes)
    assert (fact.original_bytes, fact.retry_at_ms is not None) == (len(fact.original), True)


@on_both_logs
def test_what_comes_for_a_room_of_known_version_that_is_being_joined_is_on_the_log(server: LiveServer) -> None:
    alice, remote, invite = invited(server)
    start_join(server, invite.room_id, alice)
    event = member(remote, "10", invite.room_id, invite.sender, invite.sender, membership="join")
    assert remote.send([event.pdu]) == (200, {"pdus": {event.event_id: {}}})
    assert [fact.event_id for fact in received(server, remote)] == [event.event_id]
    assert verdict(server, invite.room_id, event.event_id) is None
