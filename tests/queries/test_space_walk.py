"""Walking spaces over servers: what others tell is shown in the specification's shape, and believed in nothing else."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

import pytest

from annals.federation.errors import BadAnswer, Unreachable
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.queries.errors import NoAccess
from annals.queries.hierarchy import Spaces
from annals.queries.remote_rooms import RemoteRooms
from annals.queries.space_walk import ASKED_MAX, SpaceWalks, WalkWanted
from annals.rooms.heads import Intent
from annals.rooms.needs import Loaded
from annals.rooms.view import learn
from tests.support.rooms import Driver, created, user
from tests.support.sync_world import World

HIERARCHY = "/_matrix/federation/v1/hierarchy/"


class Told:
    """A client whose servers say what a test says; asked for anything else they are not there."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.asked: list[tuple[str, str]] = []

    async def get(self, server: str, path: str, query: Any = (), **_: Any) -> Any:
        return self._answer(server, unquote(path.removeprefix(HIERARCHY)))

    async def post(self, server: str, path: str, content: Any, **_: Any) -> Any:
        return self._answer(server, path)

    def _answer(self, server: str, what: str) -> Any:
        self.asked.append((server, what))
        if (server, what) not in self.answers:
            raise Unreachable(server, "not in the script")
        return self.answers[server, what]


def child(room_id: str, *via: str, **more: Any) -> dict[str, Any]:
    """A stripped m.space.child."""
    content = {"via": list(via) or ["peer"], **more}
    told_by = {"sender": "@c:peer", "origin_server_ts": 1}
    return {"type": "m.space.child", "state_key": room_id, "content": content, **told_by}


def room(room_id: str, **more: Any) -> dict[str, Any]:
    """A summary."""
    return {"room_id": room_id, "num_joined_members": 3, "join_rule": "public", **more}


def told(parent: dict[str, Any], *children: dict[str, Any], hidden: list[str] | None = None) -> dict[str, Any]:
    """An answer of GET /hierarchy."""
    return {"room": parent, "children": list(children), "inaccessible_children": hidden or []}


class Walks:
    """Walks of alice over the rooms of a world."""

    def __init__(self, world: World) -> None:
        self.client, self.now_ms = Told(), 0
        self.remote = RemoteRooms(self.client, "test", lambda: self.now_ms)  # type: ignore[arg-type]
        self._walks = SpaceWalks(Spaces(world.database), self.remote)

    def page(self, room_id: str, **wanted: Any) -> list[str]:
        answer = asyncio.run(self._walks.page(user("alice"), room_id, WalkWanted(**wanted)))
        return [one["room_id"] for one in answer["rooms"]]


@pytest.fixture
def walks(world: World) -> Walks:
    """Walks over empty tables."""
    return Walks(world)


def _space(world: World, *children: str) -> str:
    """A space of alice's with these children of `peer`."""
    rules = ROOM_VERSIONS["12"]
    scratch = Driver("")
    scratch.view = learn(scratch.view, Loaded(rooms={"": None}))
    create = scratch.build(Intent(user("alice"), "m.room.create", {"room_version": "12", "type": "m.space"}, ""), rules)
    driver = Driver(create.room_id)
    driver.feed(created(create))
    driver.send(user("alice"), "m.room.member", {"membership": "join"}, user("alice"))
    for order, room_id in enumerate(children):
        driver.send(user("alice"), "m.space.child", {"via": ["peer"], "order": f"{order:03}"}, room_id)
    world.settle(driver)
    return driver.room_id


def test_a_room_elsewhere_is_told_of_by_its_servers(world: World, walks: Walks) -> None:
    space = _space(world, "!space:peer", "!gone:peer")
    public, private = room("!public:peer", room_type=7, name="Public"), room("!private:peer", join_rule="invite")
    inner = room("!inner:peer", room_type="m.space")
    parent = room("!space:peer", room_type="m.space")
    named = [child(one["room_id"]) for one in (public, private, inner)]
    named += [child("!hidden:peer"), {"type": "m.space.child", "state_key": 7}]
    parent["children_state"] = named
    walks.client.answers["peer", "!space:peer"] = told(parent, public, private, inner, hidden=["!hidden:peer"])
    inner_answer = told({**inner, "children_state": [child("!deep:peer", "other")]}, room("!deep:peer"))
    walks.client.answers["peer", "!inner:peer"] = inner_answer
    assert walks.page(space) == [space, "!space:peer", "!inner:peer", "!deep:peer", "!public:peer"]
    # Of what is no space one answer says enough, and of what nobody may see nobody is asked.
    assert [what for _, what in walks.client.asked] == ["!space:peer", "!inner:peer", "!gone:peer"]
    walks.client.asked.clear()
    assert len(walks.page(space, limit=2)) == 2
    assert walks.client.asked == [], "what was told is kept for a while"
    walks.now_ms += 60_001
    walks.page(space)
    assert ("peer", "!space:peer") in walks.client.asked


def test_a_room_that_is_not_ours_is_asked_for_only_by_those_who_name_servers(walks: Walks) -> None:
    walks.client.answers["peer", "!space:peer"] = told(room("!space:peer"))
    with pytest.raises(NoAccess):
        walks.page("!space:peer")
    assert walks.client.asked == []


@pytest.mark.parametrize(
    "lie",
    [
        [],
        {"room": []},
        told(room("!another:peer")),
        told(room("!space:peer", join_rule="invite")),
        {"room": {"room_id": ["!space:peer"]}},
    ],
)
def test_a_wrong_answer_is_none(world: World, walks: Walks, lie: Any) -> None:
    space = _space(world, "!space:peer")
    walks.client.answers["peer", "!space:peer"] = lie
    assert walks.page(space) == [space]


def test_a_server_cannot_claim_a_room_that_we_are_in(world: World, walks: Walks) -> None:
    private = world.room()
    world.send(private, "alice", "m.room.name", {"name": "ours"}, "")
    space = _space(world, private.room_id, "!space:peer")
    parent = {**room("!space:peer", room_type="m.space"), "children_state": [child(private.room_id)]}
    walks.client.answers["peer", "!space:peer"] = told(parent, room(private.room_id, name="theirs"))
    answer = asyncio.run(SpaceWalks(Spaces(world.database), walks.remote).page(user("alice"), space, WalkWanted()))
    assert [one.get("name") for one in answer["rooms"]] == [None, "ours", None]


def test_others_are_asked_a_bounded_number_of_times(world: World, walks: Walks) -> None:
    spaces = [f"!space{number}:peer" for number in range(ASKED_MAX + 5)]
    space = _space(world, *spaces)
    for room_id in spaces:
        loop = {**room(room_id, room_type="m.space"), "children_state": [child(other) for other in spaces]}
        walks.client.answers["peer", room_id] = told(loop)
    found = walks.page(space)
    assert len(found) == len(set(found)) == ASKED_MAX + 1
    assert len(walks.client.asked) == ASKED_MAX


def test_the_directory_of_another_server_is_handed_on_in_its_shape(walks: Walks) -> None:
    page = {"chunk": [room("!a:peer"), "!b:peer", {"name": "no id"}], "next_batch": "n", "prev_batch": 5, "secret": 1}
    walks.client.answers["peer", "/_matrix/federation/v1/publicRooms"] = page
    found = asyncio.run(walks.remote.public_rooms("peer", {}))
    assert found == {"chunk": [room("!a:peer")], "next_batch": "n"}
    walks.client.answers["peer", "/_matrix/federation/v1/publicRooms"] = {"rooms": []}
    with pytest.raises(BadAnswer):
        asyncio.run(walks.remote.public_rooms("peer", {}))
