"""Row 36: of users of other servers nobody is told devices, keys or profiles, whatever our tables have of them."""

from __future__ import annotations

import pytest

from tests.support.federation_fixtures import logged
from tests.support.room_weaver import CAROL, plain_room
from tests.support.signed_requests import FederationApp, path
from tests.support.sync_world import World


@pytest.mark.parametrize("asker", ["peer", "stranger"])
def test_nothing_is_told_of_users_of_other_servers(world: World, asked: FederationApp, asker: str) -> None:
    # Carol of `peer` is in a room of ours: her member event is in our tables.
    logged(world, plain_room("12"))
    status, answer = asked.get(asker, path("user", "devices", CAROL))
    assert (status, answer["errcode"]) == (400, "M_INVALID_PARAM")
    assert asked.get(asker, path("user", "devices", "@nobody:peer")) == (status, answer)
    assert asked.get(asker, "/query/profile", user_id=CAROL) == (status, answer)
    assert asked.post(asker, "/user/keys/query", {"device_keys": {CAROL: []}}) == (200, {"device_keys": {}})
    claimed = {"one_time_keys": {CAROL: {"DEVICE": "signed_curve25519"}}}
    assert asked.post(asker, "/user/keys/claim", claimed) == (200, {"one_time_keys": {}})
