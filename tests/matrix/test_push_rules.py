"""Push rules: conditions one by one, the predefined rules, and their order."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.events import Event, event_of
from annals.matrix.push_conditions import Occasion, condition_of, path_of
from annals.matrix.push_default_rules import default_ruleset
from annals.matrix.push_rules import NOTHING, Actions, actions_of, compile_ruleset, full_ruleset
from annals.matrix.room_versions import V12

ME, OTHER = "@me:a", "@other:b"


def event(event_type: str = "m.room.message", state_key: str | None = None, **content: Any) -> Event:
    pdu: dict[str, Any] = {"type": event_type, "sender": OTHER, "room_id": "!r", "content": content, "depth": 1}
    pdu |= {"prev_events": [], "auth_events": [], "origin_server_ts": 1}
    return event_of(pdu if state_key is None else {**pdu, "state_key": state_key}, V12, "$e")


def occasion(happened: Event, **changes: Any) -> Occasion:
    return Occasion(happened, **{"member_count": 3, "sender_level": 0, **changes})


def holds(condition: Any, happened: Event, **changes: Any) -> bool | None:
    compiled = condition_of(condition)
    return None if compiled is None else compiled(occasion(happened, **changes))


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("content.body", ("content", "body")),
        (r"content.m\.relates_to.rel_type", ("content", "m.relates_to", "rel_type")),
        (r"content.m\\foo", ("content", r"m\foo")),
        (r"content.\x", ("content", r"\x")),
        ("a..b", ("a", "", "b")),
        ("", ("",)),
        ("a\\", ("a\\",)),
    ],
)
def test_paths(key: str, path: tuple[str, ...]) -> None:
    assert path_of(key) == path


NESTED = event("m.room.topic", "", topic="Lunch plans", body="An example event.", a={"m.b": {"c": 1}}, n=None)


@pytest.mark.parametrize(
    ("key", "pattern", "answer"),
    [
        ("content.topic", "lunc?*", True),
        ("content.topic", "plans", False),
        ("content.body", "example", True),
        ("content.body", "exam", False),
        ("type", "m.room.*", True),
        ("room_id", "!R", True),
        ("event_id", "$e", True),
        ("sender", "@other:*", True),
        ("state_key", "", True),
        ("content.a", "*", False),
        (r"content.a.m\.b.c", "*", False),
        ("content.n", "*", False),
        ("content.missing", "*", False),
        ("missing.topic", "*", False),
        ("content.topic.x", "*", False),
        ("", "*", False),
        (1, "*", None),
        ("content.topic", None, None),
    ],
)
def test_event_match(key: Any, pattern: Any, answer: bool | None) -> None:
    assert holds({"kind": "event_match", "key": key, "pattern": pattern}, NESTED) is answer


def test_what_is_no_state_event_has_no_state_key() -> None:
    assert holds({"kind": "event_match", "key": "state_key", "pattern": ""}, event()) is False


ANYTHING: dict[str, Any] = {"m.federate": True, "one": 1, "text": "true", "null": None, "many": ["#a:b", 1, None, {}]}
VALUES = event(**ANYTHING)


@pytest.mark.parametrize(
    ("key", "value", "answer"),
    [
        (r"content.m\.federate", True, True),
        (r"content.m\.federate", "true", False),
        (r"content.m\.federate", 1, False),
        ("content.one", 1, True),
        ("content.one", True, False),
        ("content.text", "true", True),
        ("content.text", "TRUE", False),
        ("content.null", None, True),
        ("content.missing", None, False),
        ("content.many", "#a:b", False),
        ("content.one", 1.0, None),
        ("content.one", 2**53, None),
        ("content.many", [], None),
        (None, 1, None),
    ],
)
def test_event_property_is(key: Any, value: Any, answer: bool | None) -> None:
    assert holds({"kind": "event_property_is", "key": key, "value": value}, VALUES) is answer


@pytest.mark.parametrize(
    ("key", "value", "answer"),
    [
        ("content.many", "#a:b", True),
        ("content.many", ":b", False),
        ("content.many", 1, True),
        ("content.many", True, False),
        ("content.many", None, True),
        ("content.text", "true", False),
        ("content.missing", None, False),
        ("content.many", {}, None),
    ],
)
def test_event_property_contains(key: str, value: Any, answer: bool | None) -> None:
    assert holds({"kind": "event_property_contains", "key": key, "value": value}, VALUES) is answer


def test_a_property_condition_without_value_is_malformed() -> None:
    for kind in ("event_property_is", "event_property_contains"):
        assert condition_of({"kind": kind, "key": "content.missing"}) is None


@pytest.mark.parametrize(
    ("name", "body", "answer"),
    [
        ("Me", "hello ME!", True),
        ("M*", "hello me", False),
        ("M*", "hello m*", True),
        ("Me", "home", False),
        ("", "hello", False),
        (None, "hello", False),
        ("Me", None, False),
    ],
)
def test_contains_display_name(name: str | None, body: Any, answer: bool) -> None:
    assert holds({"kind": "contains_display_name"}, event(body=body), display_name=name) is answer


@pytest.mark.parametrize(
    ("wanted", "answers_for_1_2_3"),
    [
        *(("2", [0, 1, 0]), ("==2", [0, 1, 0]), ("<2", [1, 0, 0]), (">2", [0, 0, 1]), ("<=2", [1, 1, 0])),
        *((">=2", [0, 1, 1]), ("02", [0, 1, 0])),
        *((malformed, [None] * 3) for malformed in ("", "=2", "2 ", "-1", "two", 2, None, "==", "2\n")),
    ],
)
def test_room_member_count(wanted: Any, answers_for_1_2_3: list[int | None]) -> None:
    condition = {"kind": "room_member_count", "is": wanted}
    assert [holds(condition, event(), member_count=count) for count in (1, 2, 3)] == answers_for_1_2_3


@pytest.mark.parametrize(
    ("levels", "sender_level", "answer"),
    [
        *(({}, 50, True), ({}, 49, False), ({"room": 0}, 0, True), ({"room": 100}, 99, False)),
        *(({"room": "0"}, 49, False), ({"room": True}, 49, False), ({"other": 0}, 49, False)),
    ],
)
def test_sender_notification_permission(levels: dict[str, Any], sender_level: int, answer: bool) -> None:
    condition = {"kind": "sender_notification_permission", "key": "room"}
    assert holds(condition, event(), sender_level=sender_level, notification_levels=levels) is answer


@pytest.mark.parametrize("condition", [None, {}, {"kind": 1}, {"kind": "device"}, [], "event_match"])
def test_unknown_conditions_are_none(condition: Any) -> None:
    assert condition_of(condition) is None


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        (["notify"], (True, False, None)),
        (["notify", {"set_tweak": "highlight"}], (True, True, None)),
        (["notify", {"set_tweak": "highlight", "value": False}], (True, False, None)),
        (["notify", {"set_tweak": "sound", "value": "ring"}], (True, False, "ring")),
        ([{"set_tweak": "highlight"}, {"set_tweak": "sound", "value": "ring"}], (False, False, None)),
        (["dont_notify"], (False, False, None)),
        (["notify", "coalesce", 1, {}, {"set_tweak": 1}], (True, False, None)),
        (None, (False, False, None)),
    ],
)
def test_actions(actions: Any, expected: tuple[bool, bool, str | None]) -> None:
    done = actions_of(actions)
    assert (done.notify, done.highlight, done.sound) == expected


def asked(happened: Event, own: Any = (), changed: Any = (), **changes: Any) -> Actions:
    ruleset = full_ruleset(ME, dict(own), dict(changed))
    return compile_ruleset(ME, ruleset).evaluate(occasion(happened, **changes))


QUIET, PLAIN = (False, False, None), (True, False, None)
MENTION: dict[str, Any] = {"m.mentions": {"user_ids": [OTHER, ME]}}
ROOM_MENTION: dict[str, Any] = {"m.mentions": {"room": True}}
NO_MENTION: dict[str, Any] = {"m.mentions": {}}
EDIT: dict[str, Any] = {"m.relates_to": {"rel_type": "m.replace"}}


@pytest.mark.parametrize(
    ("happened", "changes", "expected"),
    [
        (event(body="x"), {}, PLAIN),
        (event(body="x"), {"member_count": 2}, (True, False, "default")),
        (event(body="x", msgtype="m.notice"), {}, QUIET),
        (event(body="x", **MENTION), {}, (True, True, "default")),
        (event(body="x", **ROOM_MENTION), {"sender_level": 50}, (True, True, None)),
        (event(body="x", **ROOM_MENTION), {"sender_level": 49}, PLAIN),
        (event(body="x", **EDIT), {}, QUIET),
        (event("m.room.encrypted"), {}, PLAIN),
        (event("m.room.encrypted"), {"member_count": 2}, (True, False, "default")),
        (event("m.call.invite"), {}, (True, False, "ring")),
        (event("m.reaction"), {}, QUIET),
        (event("m.room.member", ME, membership="invite"), {}, (True, False, "default")),
        (event("m.room.member", OTHER, membership="invite"), {}, QUIET),
        (event("m.room.member", ME, membership="leave"), {}, QUIET),
        (event("m.room.tombstone", ""), {}, (True, True, None)),
        (event("m.room.tombstone"), {}, QUIET),
        (event("m.room.server_acl", ""), {}, QUIET),
        (event("m.room.topic", "", topic="x"), {}, QUIET),
        (event(body="hello @me:a and me", **NO_MENTION), {"display_name": "me"}, PLAIN),
    ],
)
def test_predefined_rules(happened: Event, changes: dict[str, Any], expected: tuple[bool, bool, str | None]) -> None:
    done = asked(happened, **changes)
    assert (done.notify, done.highlight, done.sound) == expected


def test_the_predefined_rules_are_those_of_the_spec_in_order() -> None:
    names = {kind: [rule["rule_id"] for rule in rules] for kind, rules in default_ruleset(ME).items()}
    assert list(names) == ["override", "content", "room", "sender", "underride"]
    assert names["override"] == [
        ".m.rule.master",
        ".m.rule.suppress_notices",
        ".m.rule.invite_for_me",
        ".m.rule.member_event",
        ".m.rule.is_user_mention",
        ".m.rule.is_room_mention",
        ".m.rule.tombstone",
        ".m.rule.reaction",
        ".m.rule.room.server_acl",
        ".m.rule.suppress_edits",
    ]
    assert names["underride"] == [
        ".m.rule.call",
        ".m.rule.encrypted_room_one_to_one",
        ".m.rule.room_one_to_one",
        ".m.rule.message",
        ".m.rule.encrypted",
    ]
    assert default_ruleset(ME) is not default_ruleset(ME)


def test_ones_own_events_never_notify() -> None:
    compiled = compile_ruleset(OTHER, default_ruleset(OTHER))
    assert compiled.evaluate(occasion(event(body="x"))) is NOTHING


def own_rule(kind: str, **rule: Any) -> dict[str, list[dict[str, Any]]]:
    return {kind: [{"rule_id": "mine", "default": False, "enabled": True, "actions": [], **rule}]}


LOUD = ["notify", {"set_tweak": "sound", "value": "loud"}]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (own_rule("override", conditions=[], actions=LOUD), "loud"),
        (own_rule("override", actions=LOUD), "loud"),
        (own_rule("override", conditions=[{"kind": "unknown"}], actions=LOUD), None),
        (own_rule("override", conditions="x", actions=LOUD), None),
        (own_rule("override", conditions=[], actions=LOUD, enabled=False), None),
        (own_rule("content", pattern="CAKE", actions=LOUD), "loud"),
        (own_rule("content", pattern="cak", actions=LOUD), None),
        (own_rule("content", pattern=1, actions=LOUD), None),
        (own_rule("room", rule_id="!r", actions=LOUD), "loud"),
        (own_rule("room", rule_id="!s", actions=LOUD), None),
        (own_rule("sender", rule_id=OTHER, actions=LOUD), "loud"),
        (own_rule("sender", rule_id=ME, actions=LOUD), None),
        (own_rule("underride", conditions=[], actions=LOUD), "loud"),
        (own_rule("sender", rule_id=OTHER) | own_rule("room", rule_id="!r", actions=LOUD), "loud"),
        (own_rule("room", rule_id="!r") | own_rule("content", pattern="cake", actions=LOUD), "loud"),
        (own_rule("content", pattern="cake") | own_rule("override", conditions=[], actions=LOUD), "loud"),
        (own_rule("underride", actions=LOUD) | own_rule("sender", rule_id=OTHER), None),
    ],
)
def test_own_rules_come_before_predefined_ones_and_kinds_in_order(own: Any, expected: str | None) -> None:
    assert asked(event(body="cake"), own).sound == expected


def test_the_master_rule_is_above_all() -> None:
    changed = {("override", ".m.rule.master"): {"enabled": True}}
    assert asked(event(body="x"), own_rule("override", actions=LOUD), changed) == NOTHING
    rules = full_ruleset(ME, own_rule("override"), changed)["override"]
    assert [rule["rule_id"] for rule in rules[:3]] == [".m.rule.master", "mine", ".m.rule.suppress_notices"]


def test_predefined_rules_take_other_actions_and_can_be_disabled() -> None:
    changed: dict[tuple[str, str], Any] = {("underride", ".m.rule.message"): {"actions": LOUD}}
    assert asked(event(body="x"), (), changed).sound == "loud"
    changed[("underride", ".m.rule.message")] = {"enabled": False}
    assert asked(event(body="x"), (), changed) == NOTHING
    # Under another kind, the same name is another rule.
    assert asked(event(body="x"), (), {("override", ".m.rule.message"): {"enabled": False}}).notify
