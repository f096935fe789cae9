"""A room with a policy server, played by a scripted peer that signs, refuses, or is dead."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from aiohttp import web

from annals.database.snapshot import Snapshot
from annals.matrix.canonical_json import loads
from annals.matrix.events import Event
from annals.matrix.policy_servers import KEY_ID, signature_in
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.signing import sign_event
from annals.schemas.facts.rooms import PolicyAnswered
from annals.server.policy import policy_follower
from tests.support import handing_in
from tests.support.federating import World, federating, invited, on_invites, signs_invites
from tests.support.logged import facts_of_room
from tests.support.policed_rooms import POLICY, POLICY_KEY, content_of
from tests.support.postgres import PostgresServer
from tests.support.rebuild_check import assert_generations_equal
from tests.support.remote_server import RemoteServer, verdict
from tests.support.scripted_peer import ScriptedPeer
from tests.support.server import LiveServer, User, bodies, quoted
from tests.support.spare_tables import spare_tables
from tests.support.waiting import until

SIGN = "/_matrix/policy/v1/sign"
REFUSAL = {"errcode": "M_FORBIDDEN", "error": "The message appears to contain possible spam"}


class PolicyPeer:
    """What the policy server says: it signs all but spam; `dead`: it breaks off."""

    def __init__(self, world: World) -> None:
        self.peer: ScriptedPeer = world.peer()
        self.dead = False
        self.remote = RemoteServer(world.server, self.peer.name)
        self.peer.on("POST", SIGN, self._sign)

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The events that it was asked about."""
        return [request.content for request in self.peer.asked(SIGN)]

    async def _sign(self, request: web.Request) -> web.StreamResponse:
        pdu = await request.json()
        assert (pdu["type"], pdu.get("state_key")) != (POLICY, ""), "it must not be asked about that"
        if self.dead:
            assert request.transport is not None
            request.transport.abort()
        if "spam" in str(pdu["content"]):
            return web.json_response(REFUSAL, status=400)
        signed = sign_event(pdu, ROOM_VERSIONS["10"], self.peer.name, POLICY_KEY)
        return web.json_response({self.peer.name: {KEY_ID: signed["signatures"][self.peer.name][KEY_ID]}})


@pytest.fixture(scope="module")
def url(postgres: PostgresServer) -> Iterator[str]:
    with spare_tables(postgres).tables() as url:
        yield url


@pytest.fixture(scope="module")
def world(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with federating(url, tmp_path_factory.mktemp("policy")) as made:
        yield made


def policed(world: World, policy: PolicyPeer) -> tuple[User, str, RemoteServer, str]:
    """A room with a policy server: its creator, its id, and a user of a third server who is in it."""
    alice = world.server.user("alice")
    room_id = alice.create_room(preset="public_chat", room_version="10")
    stranger = RemoteServer(world.server)
    carol = stranger.user("carol")
    policy.remote.join(room_id, policy.remote.user("policy"))
    stranger.join(room_id, carol)
    alice.set_state(room_id, POLICY, content_of(policy.peer.name))
    assert policy.asked == [], "before it is named, and about the event that names it, nobody is asked"
    return alice, room_id, stranger, carol


@contextmanager
def asking(server: LiveServer, *waits_s: float) -> Iterator[None]:
    """The part of the process `remote` that asks, while this lasts."""

    async def begin() -> asyncio.Task[None]:
        return asyncio.create_task(policy_follower(server.house, "test", waits_s).run())

    async def end(task: asyncio.Task[None]) -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    task = server.on_loop(begin())
    try:
        yield
    finally:
        server.on_loop(end(task))


def stored(server: LiveServer, event_id: str) -> tuple[str, str | None, dict[str, Any]]:
    """Verdict, reason, and the signatures that others are given."""

    def read(snapshot: Snapshot) -> Any:
        return snapshot.one("SELECT verdict, reason, federation_json FROM events WHERE event_id = %s", (event_id,))

    said, reason, text = server.on_loop(server.database.read(read))
    return said, reason, loads(text)["signatures"]


def decided(server: LiveServer, event: Event, wanted: str) -> str | None:
    """Wait for the verdict; its reason."""
    until(lambda: verdict(server, event.room_id, event.event_id) not in (None, "pending_policy"), "a verdict")
    found, reason, _ = stored(server, event.event_id)
    assert found == wanted
    return reason


def sends(user: User, room_id: str, text: str) -> tuple[int, Any]:
    path = f"/rooms/{quoted(room_id)}/send/m.room.message/{quoted(text)}"
    return user.call("PUT", path, {"msgtype": "m.text", "body": text})


def test_events_of_ours(world: World) -> None:
    policy = PolicyPeer(world)
    alice, room_id, *_ = policed(world, policy)
    event_id = alice.say(room_id, "hello")
    accepted, _, signatures = stored(world.server, event_id)
    assert accepted == "accepted"
    assert signature_in(signatures, policy.peer.name)
    assert "test" in signatures
    [asked] = policy.asked
    assert asked["content"]["body"] == "hello"
    # The server's own error, whole; and nothing of the event anywhere.
    assert sends(alice, room_id, "spam") == (403, REFUSAL)
    assert bodies(alice.messages(room_id)["chunk"]) == ["hello"]
    # What is refused for another reason is nothing to ask about.
    before = len(policy.asked)
    assert sends(world.server.user("eve"), room_id, "not in the room")[0] == 403
    assert len(policy.asked) == before
    # An invite bears it before the invited user's server sees it.
    on_invites(policy.peer, signs_invites(policy.peer))
    alice.do("POST", f"/rooms/{quoted(room_id)}/invite", {"user_id": f"@new:{policy.peer.name}"})
    [body] = invited(policy.peer)
    assert signature_in(body["event"]["signatures"], policy.peer.name)
    assert len(policy.asked) == before + 1, "once for each event"


def test_events_of_others(world: World, url: str) -> None:
    policy = PolicyPeer(world)
    alice, room_id, stranger, carol = policed(world, policy)
    since = alice.sync()["next_batch"]
    good, spam = stranger.chain(room_id, carol, ["good", "spam"])
    status, answer = stranger.send([good.pdu, spam.pdu])
    assert (status, answer) == (200, {"pdus": {good.event_id: {}, spam.event_id: {}}})
    assert [stranger.wait_for(event) for event in (good, spam)] == ["pending_policy"] * 2
    assert bodies(alice.messages(room_id)["chunk"]) == []
    assert room_id not in alice.sync(since).get("rooms", {}).get("join", {})
    with asking(world.server):
        assert decided(world.server, good, "accepted") is None
        assert decided(world.server, spam, "soft_failed") == "refused_by_policy_server"
        assert sorted(bodies(policy.asked)) == ["good", "spam"]
        assert bodies(alice.sync(since)["rooms"]["join"][room_id]["timeline"]["events"]) == ["good"]
        assert bodies(alice.messages(room_id)["chunk"]) == ["good"]
        assert signature_in(stored(world.server, good.event_id)[2], policy.peer.name)
        # One that comes with the signature is not asked about.
        signed = stranger.build(room_id, carol, "m.room.message", {"msgtype": "m.text", "body": "signed"})
        pdu = sign_event(signed.pdu, signed.rules, policy.peer.name, POLICY_KEY)
        assert stranger.send([pdu])[0] == 200
        assert stranger.wait_for(signed) == "accepted"
    assert len(policy.asked) == 2
    outcomes = [fact.outcome for fact in facts_of_room(world.server, room_id) if isinstance(fact, PolicyAnswered)]
    assert sorted(outcomes) == ["refused", "signed"]
    # Who joins by way of us knows of no policy server: we ask for it.
    event, _ = handing_in.join(stranger, room_id, stranger.user("dave"))
    assert signature_in(stored(world.server, event.event_id)[2], policy.peer.name)
    _, template = handing_in.make(stranger, "join", room_id, stranger.user("fay"))
    template["event"]["content"]["displayname"] = "spam"
    assert handing_in.send(stranger, "join", handing_in.signed(stranger, template)) == (403, REFUSAL)
    alice.say(room_id, "after")
    assert bodies(alice.messages(room_id)["chunk"])[0] == "after"


def test_a_dead_one_stops_no_room(world: World) -> None:
    policy = PolicyPeer(world)
    alice, room_id, stranger, carol = policed(world, policy)
    policy.dead = True
    status, said = sends(alice, room_id, "lost")
    assert (status, said["errcode"]) == (502, "M_UNKNOWN")
    first, second = stranger.chain(room_id, carol, ["first", "second"])
    stranger.push(first)
    with asking(world.server, 0.01, 0.01):
        assert decided(world.server, first, "soft_failed") == "policy_server_unavailable"
        asked = [body for body in bodies(policy.asked) if body == "first"]
        assert len(asked) == 3
    # Whoever may can dismiss it without its word; then everything goes on, with what is still waiting.
    stranger.push(second)
    assert verdict(world.server, room_id, second.event_id) == "pending_policy"
    alice.set_state(room_id, POLICY, {})
    before = len(policy.asked)
    alice.say(room_id, "we go on")
    with asking(world.server):
        assert decided(world.server, second, "accepted") is None
    assert len(policy.asked) == before
    assert set(bodies(alice.messages(room_id)["chunk"])) == {"second", "we go on"}


def test_a_room_may_name_us_and_gets_nothing_of_it(world: World) -> None:
    alice = world.server.user("alice")
    room_id = alice.create_room(preset="public_chat", room_version="10")
    stranger = RemoteServer(world.server)
    carol = stranger.user("carol")
    stranger.join(room_id, carol)
    alice.set_state(room_id, POLICY, content_of("test"))
    assert sends(alice, room_id, "x")[0] == 502
    [event] = stranger.chain(room_id, carol, ["y"])
    stranger.push(event)
    with asking(world.server):
        assert decided(world.server, event, "soft_failed") == "refused_by_policy_server"
    alice.set_state(room_id, POLICY, {})
    alice.say(room_id, "z")


def test_a_replay_asks_nobody(world: World, url: str) -> None:
    asked = sum(len(peer.requests) for peer in world.peers)
    assert_generations_equal(world.server.house.log, url, "test")
    assert sum(len(peer.requests) for peer in world.peers) == asked
