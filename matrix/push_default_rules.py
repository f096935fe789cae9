"""The predefined push rules (client-server API v1.19, "Predefined Rules"), as data."""

from __future__ import annotations

from typing import Any

KINDS = ("override", "content", "room", "sender", "underride")
"""Kinds of rules, in the order that they are checked."""

MASTER = ".m.rule.master"

Rule = dict[str, Any]
Ruleset = dict[str, list[Rule]]

_NOTIFY = "notify"
_HIGHLIGHT = {"set_tweak": "highlight"}
_SOUND = {"set_tweak": "sound", "value": "default"}
_RING = {"set_tweak": "sound", "value": "ring"}


def _rule(rule_id: str, conditions: list[dict[str, Any]], actions: list[Any], *, enabled: bool = True) -> Rule:
    return {"rule_id": rule_id, "default": True, "enabled": enabled, "conditions": conditions, "actions": actions}


def _match(key: str, pattern: str) -> dict[str, Any]:
    return {"kind": "event_match", "key": key, "pattern": pattern}


def _is(key: str, value: object) -> dict[str, Any]:
    return {"kind": "event_property_is", "key": key, "value": value}


def _contains(key: str, value: object) -> dict[str, Any]:
    return {"kind": "event_property_contains", "key": key, "value": value}


def default_ruleset(user_id: str) -> Ruleset:
    """The predefined rules of a user, by kind, in order. New objects at each call."""
    return {
        "override": _override(user_id),
        "content": [],
        "room": [],
        "sender": [],
        "underride": _underride(),
    }


def _override(user_id: str) -> list[Rule]:
    member = _match("type", "m.room.member")
    invite_for_me = [member, _match("content.membership", "invite"), _match("state_key", user_id)]
    may_notify_room = {"kind": "sender_notification_permission", "key": "room"}
    server_acl = [_match("type", "m.room.server_acl"), _match("state_key", "")]
    tombstone = [_match("type", "m.room.tombstone"), _match("state_key", "")]
    return [
        _rule(MASTER, [], [], enabled=False),
        _rule(".m.rule.suppress_notices", [_match("content.msgtype", "m.notice")], []),
        _rule(".m.rule.invite_for_me", invite_for_me, [_NOTIFY, dict(_SOUND)]),
        _rule(".m.rule.member_event", [dict(member)], []),
        _rule(
            ".m.rule.is_user_mention",
            [_contains("content.m\\.mentions.user_ids", user_id)],
            [_NOTIFY, dict(_SOUND), dict(_HIGHLIGHT)],
        ),
        _rule(
            ".m.rule.is_room_mention",
            [_is("content.m\\.mentions.room", True), may_notify_room],
            [_NOTIFY, dict(_HIGHLIGHT)],
        ),
        _rule(".m.rule.tombstone", tombstone, [_NOTIFY, dict(_HIGHLIGHT)]),
        _rule(".m.rule.reaction", [_match("type", "m.reaction")], []),
        _rule(".m.rule.room.server_acl", server_acl, []),
        _rule(".m.rule.suppress_edits", [_is("content.m\\.relates_to.rel_type", "m.replace")], []),
    ]


def _underride() -> list[Rule]:
    def two_members() -> dict[str, Any]:
        return {"kind": "room_member_count", "is": "2"}

    encrypted, message = _match("type", "m.room.encrypted"), _match("type", "m.room.message")
    return [
        _rule(".m.rule.call", [_match("type", "m.call.invite")], [_NOTIFY, dict(_RING)]),
        _rule(".m.rule.encrypted_room_one_to_one", [two_members(), encrypted], [_NOTIFY, dict(_SOUND)]),
        _rule(".m.rule.room_one_to_one", [two_members(), message], [_NOTIFY, dict(_SOUND)]),
        _rule(".m.rule.message", [dict(message)], [_NOTIFY]),
        _rule(".m.rule.encrypted", [dict(encrypted)], [_NOTIFY]),
    ]
