"""Rule 4 (versions 1 to 5 and 12: 5), a row for each way through it."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.auth_rules import Reason, allowed
from tests.matrix.auth_rules.cast import room_with, settings_of
from tests.matrix.auth_rules.tables import Row, in_every_version, rows, rule_of
from tests.support.at_once import at_once
from tests.support.room_events import RoomEvents, state_of, user


@rows("""
    # room                            sender  target  becomes
    rule=public                       carol   carol   join    | ok
    rule=public                       gina    gina    join    | ok
    rule=public                       bob     carol   join    | 4.3.2   5.3.2
    rule=public                       dave    dave    join    | 4.3.3   5.3.3
    rule=invite                       carol   carol   join    | 4.3.4   5.3.4
    rule=invite                       frank   frank   join    | 4.3.4   5.3.4
    rule=invite                       erin    erin    join    | ok
    rule=invite                       bob     bob     join    | ok
    rule=absent                       carol   carol   join    | 4.3.4   5.3.4
    rule=knock                        frank   frank   join    | 4.3.4   5.3.4   1-6=4.3.7
    rule=knock                        erin    erin    join    | ok              1-6=4.3.7
    rule=restricted                   erin    erin    join    | ok              1-7=4.3.7
    rule=restricted                   bob     bob     join    | ok              1-7=4.3.7
    rule=restricted                   carol   carol   join    | 4.3.5.2 5.3.5.2 1-7=4.3.7
    rule=restricted via=bob           carol   carol   join    | ok              1-7=4.3.7
    rule=restricted via=bob invite=50 carol   carol   join    | 4.3.5.2 5.3.5.2 1-7=4.3.7
    rule=restricted via=mod invite=50 carol   carol   join    | ok              1-7=4.3.7
    rule=restricted via=gina          carol   carol   join    | 4.3.5.2 5.3.5.2 1-7=4.3.7
    rule=restricted via=bob           dave    dave    join    | 4.3.3   5.3.3
    rule=knock_restricted via=bob     carol   carol   join    | ok              1-9=4.3.7
    rule=knock_restricted             frank   frank   join    | 4.3.5.2 5.3.5.2 1-9=4.3.7
    rule=private                      carol   carol   join    | 4.3.7   5.3.7
    rule=private                      erin    erin    join    | 4.3.7   5.3.7
    rule=invite                       bob     carol   invite  | ok
    rule=invite                       bob     frank   invite  | ok
    rule=invite                       bob     gina    invite  | ok
    rule=invite                       bob     erin    invite  | ok
    rule=invite                       erin    carol   invite  | 4.4.2   5.4.2
    rule=invite                       bob     mod     invite  | 4.4.3   5.4.3
    rule=invite                       alice   dave    invite  | 4.4.3   5.4.3
    rule=invite invite=50             bob     carol   invite  | 4.4.5   5.4.5
    rule=invite invite=50             mod     carol   invite  | ok
    rule=invite                       bob     bob     leave   | ok
    rule=invite                       erin    erin    leave   | ok
    rule=invite                       frank   frank   leave   | ok              1-6=4.5.1
    rule=invite                       carol   carol   leave   | 4.5.1   5.5.1
    rule=invite                       dave    dave    leave   | 4.5.1   5.5.1
    rule=invite                       gina    gina    leave   | 4.5.1   5.5.1
    rule=invite                       erin    bob     leave   | 4.5.2   5.5.2
    rule=invite ban=60                mod     dave    leave   | 4.5.3   5.5.3
    rule=invite                       mod     dave    leave   | ok
    rule=invite                       mod     bob     leave   | ok
    rule=invite                       mod     erin    leave   | ok
    rule=invite                       mod     max     leave   | 4.5.5   5.5.5
    rule=invite                       mod     alice   leave   | 4.5.5   5.5.5
    rule=invite kick=60               mod     bob     leave   | 4.5.5   5.5.5
    rule=invite kick=60               alice   mod     leave   | ok
    rule=invite                       erin    bob     ban     | 4.6.1   5.6.1
    rule=invite                       bob     carol   ban     | 4.6.3   5.6.3
    rule=invite                       mod     max     ban     | 4.6.3   5.6.3
    rule=invite ban=60                mod     bob     ban     | 4.6.3   5.6.3
    rule=invite                       mod     bob     ban     | ok
    rule=invite                       mod     carol   ban     | ok
    rule=invite                       alice   max     ban     | ok
    rule=public                       carol   carol   knock   | 4.7.1   5.7.1   1-6=4.8
    rule=absent                       carol   carol   knock   | 4.7.1   5.7.1   1-6=4.8
    rule=knock                        bob     carol   knock   | 4.7.2   5.7.2   1-6=4.8
    rule=knock                        dave    dave    knock   | 4.7.4   5.7.4   1-6=4.8
    rule=knock                        erin    erin    knock   | 4.7.4   5.7.4   1-6=4.8
    rule=knock                        bob     bob     knock   | 4.7.4   5.7.4   1-6=4.8
    rule=knock                        carol   carol   knock   | ok              1-6=4.8
    rule=knock                        gina    gina    knock   | ok              1-6=4.8
    rule=knock                        frank   frank   knock   | ok              1-6=4.8
    rule=knock_restricted             carol   carol   knock   | ok              7-9=4.7.1 1-6=4.8
    rule=public                       bob     bob     dance   | 4.8     5.8
""")
def test_a_membership_changes(row: Row) -> str:
    settings, (sender, target, membership) = settings_of(row.words)
    room, state = room_with(row.version, settings)
    content = {"membership": membership}
    if "via" in settings:
        content["join_authorised_via_users_server"] = user(settings["via"])
    event = room.event("$E", "m.room.member", sender, user(target), content)
    return rule_of(allowed(event, state))


@at_once(
    ("version", "rule", "unknown"),
    [
        *((version, "5", "5.6") for version in ("1", "2", "3", "4", "5")),
        *(("6", "4", "4.6"), ("7", "4", "4.7")),
        *((version, "4", "4.8") for version in ("8", "9", "10", "11")),
        ("12", "5", "5.8"),
    ],
)
def test_a_membership_without_its_fields(version: str, rule: str, unknown: str) -> None:
    room, state = room_with(version, {"rule": "public"})
    no_target = room.event("$1", "m.room.member", "carol", None, {"membership": "join"})
    no_membership = room.event("$2", "m.room.member", "carol", user("carol"), {})
    null = room.event("$3", "m.room.member", "carol", user("carol"), {"membership": None})
    assert [rule_of(allowed(event, state)) for event in (no_target, no_membership)] == [f"{rule}.1"] * 2
    assert rule_of(allowed(null, state)) == unknown


@at_once(
    ("version", "rule"),
    [("7", "ok"), ("8", "4.2.1"), ("9", "4.2.1"), ("10", "4.2.1"), ("11", "4.2.1"), ("12", "5.2.1")],
)
@pytest.mark.parametrize("via", [None, [], {}, 1, "", "bob"])
def test_who_authorises_a_join_has_a_name(version: str, rule: str, via: Any) -> None:
    room, state = room_with(version, {"rule": "public"})
    content = {"membership": "join", "join_authorised_via_users_server": via}
    assert rule_of(allowed(room.event("$E", "m.room.member", "carol", user("carol"), content), state)) == rule


@in_every_version
def test_the_creator_joins_first(version: str) -> None:
    room = RoomEvents(version)
    content = {"membership": "join"}
    state = state_of([room.create])
    assert allowed(room.event("$1", "m.room.member", "alice", user("alice"), content, prev=["$CREATE"]), state) is None
    for name, prev in (("bob", ["$CREATE"]), ("alice", ["$CREATE", "$OTHER"]), ("alice", ["$OTHER"])):
        found = allowed(room.event("$2", "m.room.member", name, user(name), content, prev=prev), state)
        assert found is not None
        assert found.reason is Reason.NOT_INVITED


def test_who_the_creator_is_depends_on_the_version() -> None:
    """Up to version 10 `content.creator` says so, later the sender of the create event does."""
    joined = {}
    for version in ("1", "9", "10", "11", "12"):
        room = RoomEvents(version, "alice", {"creator": "@bob:b"})
        for name in ("alice", "bob"):
            content = {"membership": "join"}
            event = room.event("$E", "m.room.member", name, user(name), content, prev=["$CREATE"])
            joined[version, name] = allowed(event, state_of([room.create])) is None
    assert [key for key, value in joined.items() if value] == [
        *(("1", "bob"), ("9", "bob"), ("10", "bob"), ("11", "alice"), ("12", "alice")),
    ]


@in_every_version
def test_a_creator_of_another_server_joins_first_in_a_room_that_is_not_federated(version: str) -> None:
    """As long as the sender is of the room's server: the rule of the first join asks for no more."""
    room = RoomEvents(version, "alice", {"creator": "@bob:b", "m.federate": False})
    state = state_of([room.create])

    def join(sender: str, target: str, *prev: str) -> str:
        event = room.event("$E", "m.room.member", sender, user(target), {"membership": "join"}, prev=prev)
        found = allowed(event, state)
        return "ok" if found is None else found.reason

    named = int(version) <= 10
    assert join("alice", "bob", "$CREATE") == ("ok" if named else Reason.NOT_FEDERATED)
    assert join("alice", "carol", "$CREATE") == Reason.NOT_FEDERATED
    assert join("alice", "bob", "$OTHER") == Reason.NOT_FEDERATED
    assert join("bob", "bob", "$CREATE") == Reason.NOT_FEDERATED


def test_creators_of_version_12_are_above_every_level() -> None:
    room = RoomEvents("12", "alice", {"additional_creators": ["@bob:b"]})
    levels = {"users": {user("max"): 2**53 - 1}, "ban": 2**53 - 1, "kick": 2**53 - 1}
    state = state_of(
        [room.create, room.state("m.room.power_levels", "", "alice", levels)]
        + [room.member(name, "join") for name in ("alice", "bob", "max")]
    )

    def ban(sender: str, target: str) -> str:
        return rule_of(allowed(room.event("$E", "m.room.member", sender, user(target), {"membership": "ban"}), state))

    assert ban("bob", "max") == ban("alice", "max") == "ok"
    assert ban("max", "bob") == ban("max", "alice") == ban("alice", "bob") == ban("bob", "alice") == "5.6.3"
