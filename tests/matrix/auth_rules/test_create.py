"""Rule 1: m.room.create."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.auth_rules import allowed, check_auth_events
from tests.matrix.auth_rules.tables import in_every_version, rule_of
from tests.support.room_events import RoomEvents

HERE, ELSEWHERE = "!room:a", "!room:b"

# content, room id (None: the version's own), prev_events, then the rule in versions 1 to 10, 11, 12
CASES: list[tuple[dict[str, Any], str | None, list[str], str, str, str]] = [
    ({"creator": "@alice:a"}, None, [], "ok", "ok", "ok"),
    ({"creator": "@alice:a"}, None, ["$P"], "1.1", "1.1", "1.1"),
    ({"creator": "@alice:a"}, ELSEWHERE, [], "1.2", "1.2", "1.2"),
    ({"creator": "@alice:a"}, HERE, [], "ok", "ok", "1.2"),
    ({"creator": "@alice:a", "room_version": "9"}, None, [], "ok", "ok", "ok"),
    ({"creator": "@alice:a", "room_version": "org.example.1"}, None, [], "1.3", "1.3", "1.3"),
    ({"creator": "@alice:a", "room_version": 10}, None, [], "1.3", "1.3", "1.3"),
    ({"creator": "@alice:a", "room_version": None}, None, [], "1.3", "1.3", "1.3"),
    ({}, None, [], "1.4", "ok", "ok"),
    ({"creator": None}, None, [], "ok", "ok", "ok"),
    ({"creator": "@alice:a", "additional_creators": ["@bob:b"]}, None, [], "ok", "ok", "ok"),
    ({"creator": "@alice:a", "additional_creators": []}, None, [], "ok", "ok", "ok"),
    ({"creator": "@alice:a", "additional_creators": None}, None, [], "ok", "ok", "1.4"),
    ({"creator": "@alice:a", "additional_creators": "@bob:b"}, None, [], "ok", "ok", "1.4"),
    ({"creator": "@alice:a", "additional_creators": {"@bob:b": 1}}, None, [], "ok", "ok", "1.4"),
    ({"creator": "@alice:a", "additional_creators": ["@bob:b", 1]}, None, [], "ok", "ok", "1.4"),
    ({"creator": "@alice:a", "additional_creators": ["bob:b"]}, None, [], "ok", "ok", "1.4"),
    ({"creator": "@alice:a", "additional_creators": ["@bob"]}, None, [], "ok", "ok", "1.4"),
    ({"creator": "@alice:a", "additional_creators": ["@bob:not a name"]}, None, [], "ok", "ok", "1.4"),
    ({"creator": "@alice:a", "additional_creators": ["@" + "b" * 255 + ":b"]}, None, [], "ok", "ok", "1.4"),
]


@in_every_version
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_room_is_made(version: str, case: tuple[dict[str, Any], str | None, list[str], str, str, str]) -> None:
    content, room_id, prev, *expected = case
    create = RoomEvents(version).event("$E", "m.room.create", "alice", "", content, prev=prev, room_id=room_id)
    assert rule_of(allowed(create, {})) == expected[max(int(version) - 10, 0)]
    assert check_auth_events(create, []) is None
