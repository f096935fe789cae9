"""Rows 1 and 2: whatever JSON a server pushes, it harms nobody: a good event of another server is taken afterwards, and
our own users can speak."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pdu_strategies import any_values
from tests.support.remote_server import RemoteServer
from tests.support.server import LiveServer, User, bodies
from tests.support.server_fixtures import server
from tests.support.soak import only_in_soak

__all__ = ["server"]

SEND = "/_matrix/federation/v1/send/"
_numbers = itertools.count(1)
VERSIONS = ("5", "10", "12")


class Scene:
    """A room of each kind of version, with a user of an evil server and one of a good one."""

    def __init__(self, server: LiveServer) -> None:
        self.server, self.alice = server, server.user("alice")
        self.evil, self.good = RemoteServer(server), RemoteServer(server)
        self.mallory, self.bob = self.evil.user("mallory"), self.good.user("bob")
        self.rooms = {
            version: self.alice.create_room(preset="public_chat", room_version=version) for version in VERSIONS
        }
        for room_id in self.rooms.values():
            self.evil.join(room_id, self.mallory)
            self.good.join(room_id, self.bob)

    def pdu(self, version: str) -> dict[str, Any]:
        """A good event of the evil server."""
        return self.evil.build(self.rooms[version], self.mallory, "m.room.message", {"body": "x"}).pdu

    def check(self, version: str) -> None:
        """All is well, all the same."""
        text = f"good {next(_numbers)}"
        room_id = self.rooms[version]
        self.good.push(*self.good.chain(room_id, self.bob, [text]))
        # In the order in which things came here: by depth it would be as the evil server likes.
        wanted = {"room": {"rooms": [room_id], "timeline": {"limit": 20}}}
        timeline = self.alice.sync(filter=json.dumps(wanted))["rooms"]["join"][room_id]["timeline"]
        assert text in bodies(timeline["events"])
        self.alice.say(room_id, f"ours {text}")


@pytest.fixture(scope="module")
def scene(server: LiveServer) -> Scene:
    return Scene(server)


_FIELDS = (
    *("type", "sender", "room_id", "state_key", "content", "depth", "origin_server_ts", "prev_events", "auth_events"),
    *("hashes", "signatures", "redacts", "event_id", "origin", "unsigned", "prev_state", "membership"),
)
_ids = st.sampled_from(["$" + "a" * 43, "$x:y", "!r:x", "@a:b", "", "$", "\0", "x" * 300, "@" + "é" * 200 + ":a"])
_numbers_of_all_sizes = st.sampled_from([-1, 0, 2**53 - 1, 2**53, 2**63 - 1, 2**63, -(2**63), 1.5, 1e300, True])
_values = any_values | _ids | _numbers_of_all_sizes | st.lists(_ids, max_size=30)
_changes = st.dictionaries(st.sampled_from(_FIELDS), _values, min_size=1, max_size=3)


def _afterwards(scene: Scene, of_all: Callable[[], None]) -> None:
    """Whatever was sent, the rooms go on; a room that came to harm would not recover by itself."""
    of_all()
    for version in VERSIONS:
        scene.check(version)


def test_any_change_of_a_pdu(scene: Scene) -> None:
    @given(st.sampled_from(VERSIONS), _changes, st.sets(st.sampled_from(_FIELDS), max_size=2), st.booleans())
    def any_change(version: str, changes: dict[str, Any], without: set[str], is_signed: bool) -> None:
        pdu = {name: value for name, value in {**scene.pdu(version), **changes}.items() if name not in without}
        if is_signed:
            pdu = scene.evil.signed(pdu, version)
        status, answer = scene.evil.send([pdu])
        assert (status, list(answer)) == (200, ["pdus"])

    _afterwards(scene, any_change)


def test_any_json_as_pdus_and_edus(scene: Scene) -> None:
    @given(st.lists(any_values, max_size=5), st.lists(any_values, max_size=5), any_values)
    def any_json(pdus: list[Any], edus: list[Any], content: Any) -> None:
        kinds = ["m.typing", "m.receipt", "m.presence", "m.direct_to_device", "m.device_list_update"]
        made = [{"edu_type": kind, "content": content} for kind in [*kinds, "m.signing_key_update"]]
        assert scene.evil.send(pdus, [*edus, *made])[0] == 200

    _afterwards(scene, any_json)


def test_any_json_as_a_transaction(scene: Scene) -> None:
    @given(any_values)
    def any_json(content: Any) -> None:
        body = content if isinstance(content, dict) else {"pdus": content}
        status, _ = scene.evil.call("PUT", f"{SEND}any{next(_numbers)}", body)
        assert status in (200, 400)

    _afterwards(scene, any_json)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"pdus": [NaN]}',
        b'{"pdus": [1e999]}',
        b'{"pdus": ["\\ud800"]}',
        b'{"pdus": [' + b"[" * 5_000 + b"]" * 5_000 + b"]}",
        b'{"pdus": ["\xff"]}',
    ],
)
def test_bodies_that_are_no_json(scene: Scene, body: bytes) -> None:
    headers = {"Authorization": f'X-Matrix origin="{scene.evil.name}",key="ed25519:r_1",sig="x",destination="test"'}
    transport = httpx.ASGITransport(app=scene.server.app)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.put(SEND + "1", content=body, headers=headers)

    assert scene.server.on_loop(ask()).status_code in (400, 401)
    scene.check("10")


@pytest.mark.parametrize("version", [*map(only_in_soak, VERSIONS[:-1]), VERSIONS[-1]])
@pytest.mark.parametrize("size", [65_000, 65_536, 65_537, 200_000])
def test_sizes_up_to_the_limit_and_beyond(scene: Scene, version: str, size: int) -> None:
    pdu = scene.pdu(version)
    short = len(json.dumps(pdu, separators=(",", ":")))
    pdu["content"]["body"] = "x" * (size - short)
    status, answer = scene.evil.send([scene.evil.signed(pdu, version)])
    assert status == 200
    assert all(result == {} or "too_large" in result["error"] for result in answer["pdus"].values())
    scene.check(version)


def depth_of(alice: User, room_id: str, event_id: str) -> int:
    """The depth of an event of ours."""
    sql = "SELECT depth FROM events WHERE room_id = %s AND event_id = %s"
    database = alice.server.database
    [(depth,)] = alice.server.on_loop(database.read(lambda snapshot: snapshot.rows(sql, (room_id, event_id))))
    return int(depth)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("depth", [2**53 - 1, 2**63 - 1, 2**63, -1, 0])
def test_depths_at_the_limit_and_beyond(scene: Scene, version: str, depth: int) -> None:
    pdu = {**scene.pdu(version), "depth": depth}
    assert scene.evil.send([scene.evil.signed(pdu, version)])[0] == 200
    scene.check(version)
    ours = scene.alice.say(scene.rooms[version], f"after {next(_numbers)}")
    assert 0 < depth_of(scene.alice, scene.rooms[version], ours) <= 2**63 - 1
    scene.check(version)
