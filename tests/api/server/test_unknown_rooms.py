"""PDUs of rooms that we know nothing of: one question, and the room again where a user of ours is in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from annals.ingest.recovery import claims
from annals.ingest.recovery.asker import Pushed
from annals.ingest.recovery.claims import ASKED_FOR_MS, Claims
from annals.matrix.events import Event
from annals.matrix.signing import SigningKey
from annals.schemas.facts.rooms import MembershipAsked, StateSetClosed
from annals.server.fetching import wanted_follower
from annals.server.handshakes import room_asker
from tests.support.federating import federating
from tests.support.forgotten_rooms import ResidentPeer, join_of_ours
from tests.support.logged import facts_of_room
from tests.support.postgres import PostgresServer
from tests.support.rebuild_check import assert_generations_equal
from tests.support.remote_server import RemoteServer, now_ms, verdict
from tests.support.scripted_room import ScriptedRoom
from tests.support.server import LiveServer, User, bodies, quoted
from tests.support.spare_tables import spare_tables
from tests.support.waiting import until


@dataclass
class World:
    """Our server, and one that says that we are in rooms of its."""

    server: LiveServer
    peer: ResidentPeer
    remote: RemoteServer
    url: str

    @property
    def key(self) -> SigningKey:
        return self.server.house.signer.key

    def asked(self, room: ScriptedRoom) -> MembershipAsked:
        """The answer of the question, once it is on the log."""

        def found() -> list[MembershipAsked]:
            return [fact for fact in facts_of_room(self.server, room.room_id) if isinstance(fact, MembershipAsked)]

        until(lambda: bool(found()), "a question")
        [fact] = found()
        return fact

    def push(self, *events: Event) -> None:
        """A transaction that is answered like any other, whatever becomes of its events."""
        assert self.remote.send([event.pdu for event in events]) == (200, {"pdus": {}})

    def accepts(self, event: Event) -> None:
        until(lambda: verdict(self.server, event.room_id, event.event_id), "a verdict")
        assert verdict(self.server, event.room_id, event.event_id) == "accepted"


@pytest.fixture(scope="module")
def world(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("unknown")
    with spare_tables(postgres).tables() as url, federating(url, folder) as made:
        peer = ResidentPeer(made.authority, folder)
        made.server.on_loop(peer.__aenter__())
        yield World(made.server, peer, peer.remote(made.server), url)
        made.server.on_loop(peer.__aexit__(None, None, None))


def register(server: LiveServer, name: str) -> User:
    body = {"username": name, "password": "a long password", "auth": {"type": "m.login.dummy"}}
    status, answer = server.call("POST", "/register", body)
    assert status == 200, answer
    return User(server, answer["user_id"], answer["access_token"], answer["device_id"])


def test_a_room_without_a_user_of_ours_is_one_question(world: World) -> None:
    room = world.peer.make_room("10", members=2)
    events = [room.say(str(number)) for number in range(24)]
    for number in range(5):
        world.push(*events[number * 4 : number * 4 + 4])
    asked = world.asked(room)
    assert (asked.member, asked.reason, asked.origin) == (None, "no_member", world.peer.name)
    assert asked.event_id in room.events
    world.push(*events[20:])
    # Nor by another process, or after a restart: what was asked stands in the tables.
    asker = room_asker(world.server.house)
    pushed = Pushed(world.peer.name, room.room_id, events[20].pdu, world.server.services.receiver.receive)

    async def heard() -> None:
        asker.heard(pushed)
        await asyncio.gather(*asker._under_way.values())

    world.server.on_loop(heard())
    assert len(world.peer.asked_for_state(room)) == 1
    assert facts_of_room(world.server, room.room_id) == [asked]


def test_a_join_that_another_key_signed_recovers_nothing(world: World) -> None:
    room = world.peer.make_room("10")
    join_of_ours(room, "@forged:test", SigningKey(world.key.key_id, b"\7" * 32))
    world.push(room.say("you are in here"))
    asked = world.asked(room)
    assert (asked.member, asked.reason) == (None, "not_signed_by_us")
    assert facts_of_room(world.server, room.room_id) == [asked]
    assert len(world.peer.asked_for_state(room)) == 1


def test_a_join_of_another_room_recovers_nothing(world: World) -> None:
    room, other = world.peer.make_room("10"), world.peer.make_room("10")
    ours = join_of_ours(other, "@moved:test", world.key)
    room.state[ours.key] = room.events[ours.event_id] = ours
    world.push(room.say("you are in here"))
    assert world.asked(room).reason == "not_signed_by_us"


@pytest.mark.parametrize("version", ["1", "3", "10", "12"])
def test_a_forgotten_room_is_recovered(world: World, version: str) -> None:
    name = f"ghost{version}"
    room = world.peer.make_room(version, members=3)
    room.say("before us")
    ours = join_of_ours(room, f"@{name}:test", world.key)
    said = room.say("do you hear me?")
    world.push(said)
    world.accepts(said)
    world.accepts(ours)
    assert world.asked(room).member == f"@{name}:test"
    ghost = register(world.server, name)
    assert bodies(ghost.messages(room.room_id)["chunk"])[:1] == ["do you hear me?"]
    assert room.room_id in ghost.sync()["rooms"]["join"]
    # From now on it is a room as any other.
    world.remote.push(room.say("and now?"))
    assert bodies(ghost.messages(room.room_id)["chunk"])[:1] == ["and now?"]
    # At the event and at the join. An event does not say by which rules its id is made, and version 3 has its own.
    assert len(world.peer.asked_for_state(room)) <= (3 if version == "3" else 2)


def test_what_was_said_meanwhile_is_fetched(world: World) -> None:
    room = world.peer.make_room("11", members=3)
    ours = join_of_ours(room, "@sleeper:test", world.key)
    meanwhile = [room.say("one"), room.member("newcomer"), room.say("two")]
    said = room.say("three")

    async def follow() -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(wanted_follower(world.server.house, "test").run())

    async def end() -> None:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    following = world.server.on_loop(follow())
    try:
        world.push(said)
        for event in (ours, *meanwhile, said):
            world.accepts(event)
    finally:
        world.server.on_loop(end())
    sleeper = register(world.server, "sleeper")
    assert bodies(sleeper.messages(room.room_id)["chunk"])[:3] == ["three", "two", "one"]


def test_an_answer_that_cannot_be_used_recovers_nothing(world: World) -> None:
    room = world.peer.make_room("10", members=2)
    ours = join_of_ours(room, "@unlucky:test", world.key)
    said = room.say("x")
    # Its state at our join lacks what our join cites.
    room.events = {ours.event_id: ours, **{key: event for key, event in room.events.items() if key != ours.event_id}}
    world.push(said)
    assert world.asked(room).member == "@unlucky:test"
    until(lambda: not world.server.services.receiver._asker._under_way, "the end")  # type: ignore[union-attr]
    facts = facts_of_room(world.server, room.room_id)
    assert not any(isinstance(fact, StateSetClosed) for fact in facts)
    assert verdict(world.server, room.room_id, said.event_id) is None


def test_a_room_that_we_have_left_is_no_question(world: World) -> None:
    alice, remote = world.server.user("alice"), world.remote
    room_id = alice.create_room(preset="public_chat", room_version="10")
    bob = remote.user("bob")
    remote.join(room_id, bob)
    [event] = remote.chain(room_id, bob, ["to nobody"])
    alice.leave(room_id)
    world.push(event)
    # A question would have been asked before this one.
    unknown = world.peer.make_room("10")
    world.push(unknown.say("x"))
    world.asked(unknown)
    assert not any(quoted(room_id) in request.target for request in world.peer.requests)
    assert not any(isinstance(fact, MembershipAsked) for fact in facts_of_room(world.server, room_id))


def test_a_room_may_be_asked_about_again_after_an_hour(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    table, at_ms = Claims(world.server.database), now_ms()

    def claim(room_id: str, server: str, later_ms: int = 0) -> bool:
        return world.server.on_loop(table.claim(room_id, server, at_ms + later_ms))

    assert claim("!a:x", "x")
    assert not claim("!a:x", "x")
    assert not claim("!a:x", "y")
    world.server.on_loop(table.answered("!a:x", "x", at_ms))
    assert not claim("!a:x", "x", ASKED_FOR_MS - 1)
    assert claim("!a:x", "x", ASKED_FOR_MS)
    # One server names few rooms an hour, and takes nothing from others.
    monkeypatch.setattr(claims, "OF_A_SERVER_MAX", 1)
    assert not claim("!b:x", "x", ASKED_FOR_MS)
    assert claim("!b:x", "y", ASKED_FOR_MS)


def test_a_replay_asks_nobody(world: World) -> None:
    room = world.peer.make_room("10")
    join_of_ours(room, "@again:test", world.key)
    said = room.say("x")
    world.push(said)
    world.accepts(said)
    asked = len(world.peer.requests)
    assert_generations_equal(world.server.house.log, world.url, "test")
    assert len(world.peer.requests) == asked
