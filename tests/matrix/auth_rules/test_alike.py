"""Events of one kind share a verdict: what the rules could tell apart is in the kind."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pytest

from annals.matrix.auth_rules import allowed, check_auth_events, kind_of
from annals.matrix.events import Event
from tests.matrix.auth_rules.cast import MEMBERSHIPS, room_with
from tests.support.room_events import RoomEvents, State, user

TYPES = (
    "m.room.message",
    "m.room.encryption",
    "m.room.aliases",
    "m.room.third_party_invite",
    "m.room.redaction",
    "m.room.power_levels",
    "m.room.create",
    "m.room.member",
)
CONTENTS: tuple[dict[str, Any], ...] = (
    {},
    {"membership": "join"},
    {"membership": "leave", "users": {user("bob"): 100}, "ban": 101},
    {"users": "odd", "body": "x", "redacts": "$m:b"},
)


def _variants(room: RoomEvents, event_type: str, name: str) -> list[Event]:
    made = [room.event(f"${number}", event_type, name, None, content) for number, content in enumerate(CONTENTS)]
    others = [replace(made[0], prev_events=()), replace(made[0], depth=7)]
    return [*made, *others, replace(made[0], redacts="$a:b"), replace(made[0], redacts=f"$a:{name[0]}")]


def _verdicts(event: Event, state: State) -> tuple[object, ...]:
    """By rule 2 and by the rules that follow, citing this and that."""
    cited = [[(state[key], False) for key in keys] for keys in ((), tuple(state)[:1], tuple(state)[:3])]
    return *(check_auth_events(event, some) for some in cited), allowed(event, state)


@pytest.mark.parametrize("version", ["1", "2", "3", "6", "8", "11", "12"])
def test_one_kind_one_verdict(version: str) -> None:
    verdicts: dict[Hashable, object] = {}
    shared = 0
    room, state = room_with(version, {"rule": "public"})
    for event_type in TYPES:
        for name in (*MEMBERSHIPS, "carol"):
            for event in _variants(room, event_type, name):
                kind, found = kind_of(event), _verdicts(event, state)
                if kind is not None:
                    shared += kind in verdicts
                    assert verdicts.setdefault(kind, found) == found
    assert shared >= 4 * len(MEMBERSHIPS) * 4, "four types at least are shared by all that say them"
    assert len(set(map(str, verdicts.values()))) >= 3, "and there is something to tell apart"


def test_of_what_changes_a_room_each_is_judged() -> None:
    room, _ = room_with("11", {"rule": "public"})
    assert kind_of(room.state("m.room.topic", "", "bob", {})) is None
    assert kind_of(room.member("bob", "join")) is None
    assert kind_of(room.event("$1", "m.room.message", "bob", None, {})) is not None
