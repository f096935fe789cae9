"""Other servers' users join, leave and knock by way of us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from annals.database.snapshot import Snapshot
from annals.matrix.auth_rules import allowed
from annals.matrix.events import Event, parse_event
from annals.matrix.room_versions import ROOM_VERSIONS
from tests.support import handing_in
from tests.support.handing_in import make, send, signed
from tests.support.remote_server import RemoteServer, verdict
from tests.support.server import SERVER_NAME, LiveServer, User, quoted
from tests.support.server_fixtures import on_both_logs


def membership(user: User, room_id: str, target: str) -> str | None:
    """What one of our users sees of somebody's membership."""
    status, content = user.call("GET", f"/rooms/{quoted(room_id)}/state/m.room.member/{quoted(target)}")
    return content["membership"] if status == 200 else None


def rows(server: LiveServer, room_id: str) -> int:
    def read(snapshot: Snapshot) -> int:
        return int(snapshot.rows("SELECT count(*) FROM events WHERE room_id = %s", (room_id,))[0][0])

    return server.on_loop(server.database.read(read))


def by_key(pdus: list[dict[str, Any]], version: str) -> dict[tuple[str, str], Event]:
    events = [parse_event(pdu, ROOM_VERSIONS[version]) for pdu in pdus]
    assert len({event.event_id for event in events}) == len(events)
    return {event.key: event for event in events}


@pytest.mark.parametrize("version", list(ROOM_VERSIONS))
def test_a_join_in_every_room_version(server: LiveServer, version: str) -> None:
    alice, remote = server.user("alice"), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat", room_version=version, name="A room")
    bob = remote.user("bob")
    status, template = make(remote, "join", room_id, bob)
    assert (status, template["room_version"]) == (200, version)
    wanted = {"type": "m.room.member", "sender": bob, "state_key": bob, "room_id": room_id, "origin": SERVER_NAME}
    assert {key: template["event"].get(key) for key in wanted} == wanted
    assert template["event"]["content"] == {"membership": "join"}
    assert not {"signatures", "hashes", "event_id", "unsigned"} & template["event"].keys()
    assert membership(alice, room_id, bob) is None, "a template is not logged"
    event = signed(remote, template)
    status, answer = send(remote, "join", event)
    assert status == 200, answer
    assert membership(alice, room_id, bob) == "join"
    check_answer(answer, event, version)
    assert send(remote, "join", event) == (200, answer), "the same request gets the same answer"
    assert send(remote, "join", event, version="v1") == (200, [200, answer])
    status, partial = send(remote, "join", event, query="omit_members=true")
    assert status == 200, partial
    check_partial(partial, answer, event, version)
    assert send(remote, "join", event, query="omit_members=false") == (200, answer)
    assert send(remote, "join", event, version="v1", query="omit_members=true") == (200, [200, answer])
    status, refusal = send(remote, "join", event, query="omit_members=yes")
    assert (status, refusal["errcode"]) == (400, "M_INVALID_PARAM")


def check_answer(answer: dict[str, Any], event: Event, version: str) -> None:
    assert answer["event"] == event.pdu
    assert (answer["origin"], answer["members_omitted"], answer["servers_in_room"]) == (SERVER_NAME, False, ["test"])
    state = by_key(answer["state"], version)
    chain = {held.event_id: held for held in (parse_event(pdu, ROOM_VERSIONS[version]) for pdu in answer["auth_chain"])}
    assert ("m.room.member", event.sender) not in state, "the state is the one before the join"
    assert state[("m.room.name", "")].content == {"name": "A room"}
    # What an auth check of each event needs is in the chain.
    for held in (*state.values(), event):
        assert set(held.auth_events) <= chain.keys()
    assert allowed(event, state) is None


def check_partial(answer: dict[str, Any], full: dict[str, Any], event: Event, version: str) -> None:
    """The room has a name, and one member, whom nothing but the auth chain needs."""
    assert (answer["members_omitted"], answer["servers_in_room"]) == (True, ["test"])
    assert (answer["event"], answer["origin"]) == (full["event"], full["origin"])
    state, chain = by_key(answer["state"], version), by_key(answer["auth_chain"], version)
    assert state == {key: held for key, held in by_key(full["state"], version).items() if key[0] != "m.room.member"}
    assert not state.keys() & chain.keys()
    assert "m.room.member" in {event_type for event_type, _ in chain}
    assert allowed(event, state) is None


def test_who_may_have_a_template(server: LiveServer) -> None:
    alice, remote, other = server.user("alice"), RemoteServer(server), RemoteServer(server)
    public = alice.create_room(preset="public_chat", room_version="10")
    closed = alice.create_room(preset="private_chat", room_version="10")
    left = alice.create_room(preset="public_chat", room_version="10")
    alice.leave(left)
    bob = remote.user("bob")

    def errcode(room_id: str, user_id: str = bob, query: str = "ver=10", kind: str = "join") -> tuple[int, str]:
        status, answer = make(remote, kind, room_id, user_id, query)
        return status, answer.get("errcode", "")

    assert errcode(public) == (200, "")
    assert errcode(public, other.user()) == (403, "M_FORBIDDEN"), "a user of another server"
    assert errcode(public, "bob") == (403, "M_FORBIDDEN")
    assert errcode("!nowhere:test") == (404, "M_NOT_FOUND")
    assert errcode(left) == (404, "M_NOT_FOUND"), "a room that nobody of us is in"
    assert errcode(closed) == (403, "M_FORBIDDEN")
    assert errcode(public, kind="knock") == (403, "M_FORBIDDEN")
    assert errcode(public, kind="leave") == (403, "M_FORBIDDEN"), "who is not there cannot leave"
    assert errcode("!nowhere:test", kind="leave") == (404, "M_NOT_FOUND")
    assert errcode(left, kind="leave") == (403, "M_FORBIDDEN"), "there is no other answer to a leave"
    for query in ("ver=9&ver=11", ""):
        status, answer = make(remote, "join", public, bob, query)
        assert (status, answer["errcode"], answer["room_version"]) == (400, "M_INCOMPATIBLE_ROOM_VERSION", "10")
    alice.set_state(public, "m.room.member", {"membership": "ban"}, bob)
    assert errcode(public) == (403, "M_FORBIDDEN")


@on_both_logs
def test_a_user_leaves(server: LiveServer) -> None:
    alice, remote = server.user("alice"), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat")
    bob = remote.user("bob")
    handing_in.join(remote, room_id, bob)
    status, template = make(remote, "leave", room_id, bob, "")
    assert status == 200, template
    event = signed(remote, template)
    assert send(remote, "leave", event) == (200, {})
    assert membership(alice, room_id, bob) == "leave"
    assert send(remote, "leave", event, version="v1") == (200, [200, {}])


@pytest.mark.parametrize("version", ["7", "10", "12"])
def test_a_user_knocks_and_is_let_in(server: LiveServer, version: str) -> None:
    alice, remote = server.user("alice"), RemoteServer(server)
    room_id = alice.create_room(room_version=version, name="Closed", initial_state=[knocking("knock")])
    bob = remote.user("bob")
    status, template = make(remote, "knock", room_id, bob)
    assert status == 200, template
    status, answer = send(remote, "knock", signed(remote, template))
    assert status == 200, answer
    assert membership(alice, room_id, bob) == "knock"
    shown = by_key(answer["knock_room_state"], version)
    assert {event_type for event_type, _ in shown} == {"m.room.create", "m.room.join_rules", "m.room.name"}
    assert shown["m.room.create", ""].room_id == room_id


def knocking(rule: str, **more: Any) -> dict[str, Any]:
    return {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": rule, **more}}


@pytest.mark.parametrize("version", ["6", "7"])
def test_no_knock_where_there_is_no_knocking(server: LiveServer, version: str) -> None:
    alice, remote = server.user("alice"), RemoteServer(server)
    room_id = alice.create_room(room_version=version, preset="private_chat")
    assert make(remote, "knock", room_id, remote.user())[0] == 403


def test_a_join_that_is_not_allowed_any_more_is_refused(server: LiveServer) -> None:
    alice, remote = server.user("alice"), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat")
    bob = remote.user("bob")
    _, template = make(remote, "join", room_id, bob)
    alice.set_state(room_id, "m.room.member", {"membership": "ban"}, bob)
    event = signed(remote, template)
    status, answer = send(remote, "join", event)
    assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")
    assert verdict(server, room_id, event.event_id) == "soft_failed"
    assert send(remote, "join", event)[0] == 403, "and again"
    assert membership(alice, room_id, bob) == "ban"


class Restricted:
    """A restricted room, and the space whose members may join it."""

    def __init__(self, server: LiveServer, version: str, rule: str = "restricted", **fields: Any) -> None:
        self.server, self.alice = server, server.user("alice")
        self.space = self.alice.create_room(preset="public_chat", room_version=version)
        allow = [{"type": "m.room_membership", "room_id": self.space}]
        state = [knocking(rule, allow=allow)]
        self.room_id = self.alice.create_room(room_version=version, initial_state=state, **fields)


@pytest.mark.parametrize(("version", "rule"), [("8", "restricted"), ("10", "knock_restricted"), ("12", "restricted")])
def test_a_restricted_join_has_our_signature_too(server: LiveServer, version: str, rule: str) -> None:
    made, remote = Restricted(server, version, rule, name="For members"), RemoteServer(server)
    bob = remote.user("bob")
    status, answer = make(remote, "join", made.room_id, bob)
    assert (status, answer["errcode"]) == (403, "M_FORBIDDEN"), "not in the space"
    handing_in.join(remote, made.space, bob)
    status, template = make(remote, "join", made.room_id, bob)
    assert status == 200, template
    assert template["event"]["content"]["join_authorised_via_users_server"] == made.alice.id
    event = signed(remote, template)
    assert SERVER_NAME not in event.pdu["signatures"]
    status, answer = send(remote, "join", event)
    assert status == 200, answer
    assert answer["event"]["signatures"].keys() == {remote.name, SERVER_NAME}
    assert {**answer["event"], "signatures": {}} == {**event.pdu, "signatures": {}}
    assert membership(made.alice, made.room_id, bob) == "join"
    assert send(remote, "join", event) == (200, answer)
    _, partial = send(remote, "join", event, query="omit_members=true")
    assert allowed(event, by_key(partial["state"], version)) is None, "who vouches is in the partial state"


def test_our_leave_is_given_for_what_is_so_now(server: LiveServer) -> None:
    made, remote = Restricted(server, "10"), RemoteServer(server)
    bob = remote.user("bob")
    handing_in.join(remote, made.space, bob)
    _, template = make(remote, "join", made.room_id, bob)
    made.alice.set_state(made.space, "m.room.member", {"membership": "leave"}, bob)
    event = signed(remote, template)
    before = rows(server, made.room_id)
    status, answer = send(remote, "join", event)
    assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")
    assert "signatures" not in answer
    assert rows(server, made.room_id) == before, "nothing was logged"


def test_who_cannot_let_others_in_says_so(server: LiveServer) -> None:
    made, remote = Restricted(server, "10"), RemoteServer(server)
    bob = remote.user("bob")
    handing_in.join(remote, made.space, bob)
    carol = server.user("carol")
    made.alice.do("POST", f"/rooms/{quoted(made.room_id)}/invite", {"user_id": carol.id})
    carol.join(made.room_id)
    levels = made.alice.do("GET", f"/rooms/{quoted(made.room_id)}/state/m.room.power_levels/")
    made.alice.set_state(made.room_id, "m.room.power_levels", {**levels, "invite": 50})
    made.alice.leave(made.room_id)
    status, answer = make(remote, "join", made.room_id, bob)
    assert (status, answer["errcode"]) == (400, "M_UNABLE_TO_GRANT_JOIN")


def test_a_member_without_a_name_in_the_power_levels_may_let_others_in(server: LiveServer) -> None:
    made, remote = Restricted(server, "10"), RemoteServer(server)
    bob = remote.user("bob")
    handing_in.join(remote, made.space, bob)
    carol = server.user("carol")
    made.alice.do("POST", f"/rooms/{quoted(made.room_id)}/invite", {"user_id": carol.id})
    carol.join(made.room_id)
    made.alice.leave(made.room_id)
    status, template = make(remote, "join", made.room_id, bob)
    assert status == 200, template
    assert template["event"]["content"]["join_authorised_via_users_server"] == carol.id


def test_conditions_that_we_cannot_look_into(server: LiveServer) -> None:
    made, remote = Restricted(server, "10"), RemoteServer(server)
    made.alice.leave(made.space)
    status, answer = make(remote, "join", made.room_id, remote.user("bob"))
    assert (status, answer["errcode"]) == (400, "M_UNABLE_TO_AUTHORISE_JOIN")


def test_nobody_else_is_named_as_who_let_somebody_in(server: LiveServer) -> None:
    made, remote = Restricted(server, "10"), RemoteServer(server)
    bob, carol = remote.user("bob"), server.user("carol")
    handing_in.join(remote, made.space, bob)
    _, template = make(remote, "join", made.room_id, bob)
    content = {"membership": "join", "join_authorised_via_users_server": carol.id}
    status, answer = send(remote, "join", signed(remote, template, content=content))
    assert (status, answer["errcode"]) == (400, "M_UNABLE_TO_GRANT_JOIN")
    assert membership(made.alice, made.room_id, bob) is None


def test_a_server_that_the_acl_bars_gets_nothing(server: LiveServer) -> None:
    alice, remote = server.user("alice"), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat")
    bob = remote.user("bob")
    _, template = make(remote, "join", room_id, bob)
    event = signed(remote, template)
    alice.set_state(room_id, "m.room.server_acl", {"allow": ["*"], "deny": [remote.name.upper()]})
    before = rows(server, room_id)
    asked: list[Callable[[], tuple[int, Any]]] = [
        lambda: make(remote, "join", room_id, bob),
        lambda: make(remote, "leave", room_id, bob),
        lambda: make(remote, "knock", room_id, bob),
        lambda: send(remote, "join", event),
        lambda: send(remote, "join", event, version="v1"),
    ]
    for ask in asked:
        status, answer = ask()
        assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")
        assert "access control" in answer["error"]
    assert rows(server, room_id) == before
