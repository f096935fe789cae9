"""The directory of published rooms and the rooms of spaces: for clients, and for other servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from annals.api.app import make_app
from tests.support.server import LiveServer, User, quoted
from tests.support.signed_requests import FederationApp, verifier
from tests.support.statements import count_statements

PUBLIC = "/publicRooms"


@pytest.fixture
def other(server: LiveServer) -> Iterator[FederationApp]:
    """The server, asked by others."""
    with TestClient(make_app(replace(server.services, requests=verifier()))) as client:
        yield FederationApp(client)


def _space(user: User, **more: Any) -> str:
    return user.create_room(creation_content={"type": "m.space"}, **more)


def _add_child(user: User, space: str, child: str, **content: Any) -> None:
    path = f"/rooms/{quoted(space)}/state/m.space.child/{quoted(child)}"
    user.do("PUT", path, {"via": ["test"], **content})


def _hierarchy(user: User, room_id: str, **params: Any) -> tuple[int, Any]:
    return user.call("GET", f"/_matrix/client/v1/rooms/{quoted(room_id)}/hierarchy", params=params)


def _ids(rooms: list[dict[str, Any]]) -> list[str]:
    return [room["room_id"] for room in rooms]


def test_published_rooms_are_listed_largest_first(server: LiveServer, other: FederationApp) -> None:
    alice, bob = server.user(), server.user()
    word = alice.id[1:8] + "word"
    small = alice.create_room(visibility="public", preset="public_chat", name=f"{word} small", topic="cheese")
    large = alice.create_room(visibility="public", preset="public_chat", topic=f"All about {word.upper()}")
    bob.join(large)
    space = _space(alice, visibility="public", preset="public_chat", name=f"{word} space")
    bob.join(space)
    hidden = alice.create_room(preset="public_chat", name=f"{word} hidden")
    searched = {"filter": {"generic_search_term": word}}
    found = bob.do("POST", PUBLIC, searched)
    assert _ids(found["chunk"])[2] == small
    assert set(_ids(found["chunk"])[:2]) == {large, space}
    assert found["total_room_count_estimate"] == 3
    [shown] = [room for room in found["chunk"] if room["room_id"] == small]
    assert shown == {
        "room_id": small,
        "name": f"{word} small",
        "topic": "cheese",
        "num_joined_members": 1,
        "join_rule": "public",
        "world_readable": False,
        "guest_can_join": False,
    }
    everything = server.call("GET", PUBLIC)[1]["chunk"]
    assert {small, large, space} <= set(_ids(everything))
    assert hidden not in _ids(everything)
    of_types: list[tuple[list[str | None], set[str]]] = [
        (["m.space"], {space}),
        ([None], {small, large}),
        ([], set()),
        (["m.space", None], {small, large, space}),
    ]
    for types, rooms in of_types:
        wanted: dict[str, Any] = {"filter": {"generic_search_term": word, "room_types": types}}
        assert set(_ids(bob.do("POST", PUBLIC, wanted)["chunk"])) == rooms
        status, answer = other.post("peer", PUBLIC, wanted)
        assert (status, set(_ids(answer["chunk"]))) == (200, rooms)
    assert set(_ids(other.get("peer", PUBLIC)[1]["chunk"])) >= {small, large, space}


def test_the_directory_is_read_page_by_page_in_both_directions(server: LiveServer, other: FederationApp) -> None:
    alice = server.user()
    made = {alice.create_room(visibility="public", preset="public_chat") for _ in range(5)}
    whole = _ids(server.call("GET", PUBLIC)[1]["chunk"])
    assert made <= set(whole)
    pages, token = [], None
    while True:
        params = {"limit": 2} | ({"since": token} if token else {})
        page = server.call("GET", PUBLIC, params=params)[1]
        assert page == other.get("peer", PUBLIC, [(name, str(value)) for name, value in params.items()])[1]
        pages.append(page)
        if (token := page.get("next_batch")) is None:
            break
    assert [room_id for page in pages for room_id in _ids(page["chunk"])] == whole
    assert "prev_batch" not in pages[0]
    back = server.call("GET", PUBLIC, params={"limit": 2, "since": pages[2 if len(pages) > 2 else 1]["prev_batch"]})[1]
    assert back["chunk"] == pages[1 if len(pages) > 2 else 0]["chunk"]
    assert server.call("GET", PUBLIC, params={"since": "nonsense"})[0] == 400


def test_a_stranger_does_not_make_this_server_ask_others(server: LiveServer) -> None:
    assert server.call("GET", PUBLIC, params={"server": "peer.invalid"})[0] == 401
    alice = server.user()
    assert alice.call("GET", PUBLIC, params={"server": "not a name"})[0] == 400
    status, answer = alice.call("GET", PUBLIC, params={"server": "peer.invalid"})
    assert (status, answer["errcode"]) == (502, "M_UNKNOWN")
    assert alice.call("GET", PUBLIC, params={"server": "test", "limit": 1})[0] == 200


def test_a_space_is_walked_depth_first_in_the_order_of_its_children(server: LiveServer) -> None:
    alice, bob = server.user(), server.user()
    root, inner = (_space(alice, preset="public_chat", name=name) for name in ("root", "inner"))
    first, second, third = (alice.create_room(preset="public_chat") for _ in range(3))
    private = alice.create_room(name="private")
    _add_child(alice, root, second, order="b", suggested=True)
    _add_child(alice, root, inner, order="a")
    _add_child(alice, root, private)
    _add_child(alice, root, third, via=[])
    _add_child(alice, inner, first)
    _add_child(alice, inner, root)
    status, answer = _hierarchy(bob, root)
    assert status == 200
    assert _ids(answer["rooms"]) == [root, inner, first, second]
    assert [child["state_key"] for child in answer["rooms"][0]["children_state"]] == [inner, second, private]
    assert answer["rooms"][0]["room_type"] == "m.space"
    assert _ids(_hierarchy(alice, root)[1]["rooms"]) == [root, inner, first, second, private]
    assert _ids(_hierarchy(bob, root, max_depth=1)[1]["rooms"]) == [root, inner, second]
    assert _ids(_hierarchy(bob, root, suggested_only="true")[1]["rooms"]) == [root, second]
    found, params = [], {"limit": 3}
    while True:
        page = _hierarchy(bob, root, **params)[1]
        found += _ids(page["rooms"])
        if "next_batch" not in page:
            break
        params = {"limit": 3, "from": page["next_batch"]}
    assert found == [root, inner, first, second]
    assert _hierarchy(bob, root, max_depth=1, **params)[0] == 400
    assert _hierarchy(bob, root, limit=0)[0] == 400


def test_strangers_learn_of_no_private_room(server: LiveServer, other: FederationApp) -> None:
    alice, bob = server.user(), server.user()
    root = _space(alice, preset="public_chat")
    private, secret_space = alice.create_room(name="Secret club"), _space(alice, name="Secret space")
    clubhouse = {
        "type": "m.room.join_rules",
        "content": {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": secret_space}]},
    }
    members_only = alice.create_room(initial_state=[clubhouse], name="Members only")
    for child in (private, secret_space, members_only):
        _add_child(alice, root, child)
    refused = _hierarchy(bob, secret_space)
    assert (refused[0], refused[1]["errcode"]) == (403, "M_FORBIDDEN")
    assert _hierarchy(bob, "!" + "A" * 43) == refused
    assert _ids(_hierarchy(bob, root)[1]["rooms"]) == [root]
    status, answer = other.get("peer", f"/hierarchy/{quoted(root)}")
    assert (status, answer["room"]["room_id"], answer["children"]) == (200, root, [])
    assert set(answer["inaccessible_children"]) == {private, secret_space, members_only}
    hidden = other.get("peer", f"/hierarchy/{quoted(secret_space)}")
    assert (hidden[0], hidden[1]["errcode"]) == (404, "M_NOT_FOUND")
    assert other.get("peer", f"/hierarchy/{quoted('!' + 'A' * 43)}") == hidden
    assert "Secret" not in str(answer)
    # Whom they invite may know; and who is in the space, of what it opens.
    alice.do("POST", f"/rooms/{quoted(secret_space)}/invite", {"user_id": bob.id})
    assert set(_ids(_hierarchy(bob, root)[1]["rooms"])) == {root, secret_space}
    bob.join(secret_space)
    assert set(_ids(_hierarchy(bob, root)[1]["rooms"])) == {root, secret_space, members_only}


def test_a_server_is_told_of_a_space_with_its_children(server: LiveServer, other: FederationApp) -> None:
    alice = server.user()
    root, child = (
        _space(alice, preset="public_chat", name="root"),
        alice.create_room(preset="public_chat", name="child"),
    )
    counts = []
    for number in range(2):
        more = alice.create_room(preset="public_chat")
        _add_child(alice, root, child, suggested=True)
        _add_child(alice, root, more, order=str(number))
        with count_statements(server.database) as sent:
            status, answer = other.get("peer", f"/hierarchy/{quoted(root)}")
        counts.append(len(sent.queries))
    assert status == 200
    assert counts[0] == counts[1]
    assert len(answer["children"]) == 3
    assert {room.get("name") for room in answer["children"]} == {"child", None}
    assert all("children_state" not in room for room in answer["children"])
    _, answer = other.get("peer", f"/hierarchy/{quoted(root)}", suggested_only="true")
    assert _ids(answer["children"]) == [child]
    assert [one["state_key"] for one in answer["room"]["children_state"]] == [child]
