"""Aliases, and which rooms are published."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from annals.database.rows import Rows
from tests.support import room_rows
from tests.support.accounts_house import SERVER, House

ALICE, BOB = f"@alice:{SERVER}", f"@bob:{SERVER}"
ROOM, OTHER = "!room/x:test", "!other:test"
ALIAS = f"/_matrix/client/v3/directory/room/%23a%2Fb:{SERVER}"
NAME = f"#a/b:{SERVER}"


@pytest.fixture
def tokens(house: House) -> tuple[str, str]:
    """Those of `house`."""
    return _tokens(house)


@pytest.fixture(scope="module")
def shared_tokens(shared_house: House) -> tuple[str, str]:
    """The same in the house of claims that are refused."""
    return _tokens(shared_house)


def _tokens(house: House) -> tuple[str, str]:
    """Alice's, who is in both rooms, and Bob's, who is in the other one."""
    alice, bob = house.register("alice")["access_token"], house.register("bob")["access_token"]
    rows = Rows()
    for room_id in (ROOM, OTHER):
        room_rows.room(rows, room_id, ALICE)
        room_rows.member(rows, room_id, ALICE)
    room_rows.member(rows, OTHER, BOB)
    room_rows.member(rows, ROOM, "@carol:elsewhere.example")
    house.put_rows(rows)
    return alice, bob


def test_an_alias_is_claimed_resolved_listed_and_freed(house: House, tokens: tuple[str, str]) -> None:
    alice, bob = tokens
    assert house.call("GET", ALIAS)[1]["errcode"] == "M_NOT_FOUND"
    assert house.call("PUT", ALIAS, {"room_id": ROOM}, alice) == (200, {})
    found = {"room_id": ROOM, "servers": [SERVER, "elsewhere.example"]}
    assert house.call("GET", ALIAS) == (200, found)
    listed = "/_matrix/client/v3/rooms/!room%2Fx:test/aliases"
    assert house.call("GET", listed, token=alice) == (200, {"aliases": [NAME]})
    assert house.call("GET", listed, token=bob)[1]["errcode"] == "M_FORBIDDEN"
    for body in ({"room_id": OTHER}, {"room_id": ROOM}):
        status, answer = house.call("PUT", ALIAS, body, alice)
        assert (status, answer["errcode"]) == (409, "M_UNKNOWN")
    assert house.call("DELETE", ALIAS, token=bob)[1]["errcode"] == "M_FORBIDDEN"
    assert house.call("DELETE", ALIAS, token=alice) == (200, {})
    assert house.call("DELETE", ALIAS, token=alice)[1]["errcode"] == "M_NOT_FOUND"
    assert house.call("GET", ALIAS)[0] == 404


def test_who_could_change_the_canonical_alias_may_delete(house: House, tokens: tuple[str, str]) -> None:
    alice, bob = tokens
    house.call("PUT", ALIAS, {"room_id": OTHER}, alice)
    assert house.call("DELETE", ALIAS, token=bob)[0] == 403
    house.power.powerful.add((OTHER, BOB))
    assert house.call("DELETE", ALIAS, token=bob) == (200, {})


def test_aliases_of_world_readable_rooms_are_for_all(house: House, tokens: tuple[str, str]) -> None:
    alice, bob = tokens
    house.call("PUT", ALIAS, {"room_id": ROOM}, alice)
    rows = Rows()
    visibility = {"history_visibility": "world_readable"}
    room_rows.state(rows, ROOM, "m.room.history_visibility", "", visibility, ALICE)
    house.put_rows(rows)
    listed = "/_matrix/client/v3/rooms/!room%2Fx:test/aliases"
    assert house.call("GET", listed, token=bob) == (200, {"aliases": [NAME]})
    assert house.call("GET", "/_matrix/client/v3/rooms/nonsense/aliases", token=bob)[0] == 400


def test_many_claim_one_alias_and_one_gets_it(house: House, tokens: tuple[str, str]) -> None:
    alice, bob = tokens
    rooms = {alice: ROOM, bob: OTHER}

    def claim(number: int) -> tuple[str, int]:
        token = (alice, bob)[number % 2]
        return rooms[token], house.call("PUT", ALIAS, {"room_id": rooms[token]}, token)[0]

    with ThreadPoolExecutor(10) as threads:
        outcomes = list(threads.map(claim, range(10)))
    assert {status for _, status in outcomes} <= {200, 409}
    # The same claim twice at once is one claim; a claim for another room never is.
    (winner,) = {room_id for room_id, status in outcomes if status == 200}
    assert house.call("GET", ALIAS)[1]["room_id"] == winner


@pytest.mark.parametrize(
    ("alias", "body", "status", "errcode"),
    [
        ("%23a:elsewhere.example", {"room_id": ROOM}, 400, "M_INVALID_PARAM"),
        ("nonsense", {"room_id": ROOM}, 400, "M_INVALID_PARAM"),
        (f"%23a%00:{SERVER}", {"room_id": ROOM}, 400, "M_INVALID_PARAM"),
        (f"%23a:{SERVER}", {"room_id": "nonsense"}, 400, "M_INVALID_PARAM"),
        (f"%23a:{SERVER}", {"room_id": "!unknown:x"}, 403, "M_FORBIDDEN"),
        (f"%23a:{SERVER}", {}, 400, "M_MISSING_PARAM"),
        (f"%23a:{SERVER}", {"room_id": 5}, 400, "M_BAD_JSON"),
        (f"%23{'a' * 300}:{SERVER}", {"room_id": ROOM}, 400, "M_INVALID_PARAM"),
    ],
)
def test_claims_that_are_refused(
    shared_house: House,
    shared_tokens: tuple[str, str],
    alias: str,
    body: dict[str, object],
    status: int,
    errcode: str,
) -> None:
    path = f"/_matrix/client/v3/directory/room/{alias}"
    got, answer = shared_house.call("PUT", path, body, shared_tokens[0])
    assert (got, answer["errcode"]) == (status, errcode)


def test_publishing_a_room(house: House, tokens: tuple[str, str]) -> None:
    alice, bob = tokens
    path = f"/_matrix/client/v3/directory/list/room/{OTHER}"
    house.power.powerful.add((OTHER, ALICE))
    assert house.call("GET", path) == (200, {"visibility": "private"})
    assert house.call("PUT", path, {}, bob)[1]["errcode"] == "M_FORBIDDEN"
    assert house.call("PUT", path, {"visibility": "nonsense"}, alice)[1]["errcode"] == "M_INVALID_PARAM"
    assert house.call("PUT", path, {}, alice) == (200, {})
    assert house.call("GET", path) == (200, {"visibility": "public"})
    assert house.call("PUT", path, {"visibility": "private"}, alice) == (200, {})
    assert house.call("GET", path) == (200, {"visibility": "private"})
    unknown = "/_matrix/client/v3/directory/list/room/!unknown:x"
    assert house.call("GET", unknown)[1]["errcode"] == "M_NOT_FOUND"
    assert house.call("PUT", unknown, {}, alice)[1]["errcode"] == "M_NOT_FOUND"
