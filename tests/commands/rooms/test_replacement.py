"""What of a room goes into the one that replaces it."""

from __future__ import annotations

from typing import Any

import pytest

from annals.commands.rooms.replacement import OldRoom, closing_levels, create_content_of, levels_of, state_of
from annals.matrix.events import Event
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.rooms.heads import Intent
from tests.support.room_traffic import numbered_room
from tests.support.rooms import user

ALICE, BOB = user("alice"), user("bob")


def _old(version: str, *state: tuple[str, str, dict[str, Any]], room_type: str | None = None) -> OldRoom:
    rules = ROOM_VERSIONS[version]
    driver = numbered_room(version, 1)
    events: dict[tuple[str, str], Event] = {}
    for kind, key, content in state:
        event = driver.send(ALICE, kind, content, key)
        events[kind, key] = event
    content = {"room_version": version} | ({"type": room_type} if room_type else {})
    events["m.room.create", ""] = driver.build(Intent(ALICE, "m.room.create", content, ""), rules)
    return OldRoom(driver.room_id, rules, events, None)


@pytest.mark.parametrize(
    ("rule", "version", "expected"),
    [
        ("knock", "6", "invite"),
        ("knock", "7", "knock"),
        ("restricted", "7", "invite"),
        ("restricted", "8", "restricted"),
        ("knock_restricted", "9", "invite"),
        ("knock_restricted", "10", "knock_restricted"),
        ("public", "1", "public"),
    ],
)
def test_a_join_rule_that_the_version_does_not_know_is_invite(rule: str, version: str, expected: str) -> None:
    old = _old("11", ("m.room.join_rules", "", {"join_rule": rule}))
    state = {kind: content for kind, _, content in state_of(old, ALICE, {ALICE}, ROOM_VERSIONS[version])}
    assert state["m.room.join_rules"]["join_rule"] == expected


@pytest.mark.parametrize("content", [{"join_rule": ["public"]}, {"join_rule": {}}, {"join_rule": None}, {}])
def test_join_rules_that_name_none_come_as_they_are(content: dict[str, Any]) -> None:
    old = _old("11", ("m.room.join_rules", "", content))
    state = {kind: content for kind, _, content in state_of(old, ALICE, {ALICE}, ROOM_VERSIONS["12"])}
    assert state["m.room.join_rules"] == content


def test_levels_come_last_and_members_and_strange_events_do_not_come() -> None:
    old = _old("11", ("m.room.power_levels", "", {"users": {ALICE: 100}}), ("org.x", "", {}), ("m.room.name", "", {}))
    assert [kind for kind, _, _ in state_of(old, ALICE, {ALICE}, ROOM_VERSIONS["12"])] == [
        "m.room.name",
        "m.room.power_levels",
    ]


@pytest.mark.parametrize(("room_type", "children"), [("m.space", ["!a:x", "!c:x"]), (None, [])])
def test_a_space_keeps_its_children(room_type: str | None, children: list[str]) -> None:
    via: dict[str, Any] = {"via": ["x"]}
    state = [("m.space.child", room, via if room != "!b:x" else {}) for room in ("!c:x", "!b:x", "!a:x")]
    old = _old("11", *state, room_type=room_type)
    kept = [key for kind, key, _ in state_of(old, ALICE, {ALICE}, ROOM_VERSIONS["11"]) if kind == "m.space.child"]
    assert kept == children
    assert create_content_of(old, ALICE, (), ROOM_VERSIONS["11"]).get("type") == room_type


def test_levels_that_were_strings_are_numbers_where_they_must_be() -> None:
    levels: dict[str, Any] = {"users": {ALICE: "100", BOB: " 7 "}, "ban": "50", "events": {"m.room.name": "3"}}
    old = _old("9", ("m.room.power_levels", "", levels))
    content = levels_of(old, ALICE, {ALICE}, ROOM_VERSIONS["12"])
    assert content == {"users": {BOB: 7}, "ban": 50, "events": {"m.room.name": 3, "m.room.tombstone": 150}}


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({}, (50, 50)),
        ({"users_default": 60}, (61, 61)),
        ({"events_default": 70, "invite": 0}, (70, 50)),
        ({"events_default": 50, "invite": 50}, None),
    ],
)
def test_how_the_old_room_is_closed(levels: dict[str, Any], expected: tuple[int, int] | None) -> None:
    old = _old("11", ("m.room.power_levels", "", {"users": {ALICE: 100}, **levels}))
    content = closing_levels(old)
    assert (None if content is None else (content["events_default"], content["invite"])) == expected
