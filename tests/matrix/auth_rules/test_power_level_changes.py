"""Rule 9 (versions 1 to 5 and 12: 10).

The room's levels stand in cast.py: `redact` 100, m.room.encryption 100, @room 50.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from annals.matrix.auth_rules import allowed
from annals.matrix.power_levels import PowerLevels
from tests.matrix.auth_rules.cast import power_levels, room_with
from tests.matrix.auth_rules.tables import Row, by_version, in_every_version, rows, rule_of
from tests.support.room_events import RoomEvents, state_of, user


@rows("""
    # sender  change
    mod       nothing=0                      | ok
    mod       ban=50                         | ok
    mod       ban="50"                       | 9.1   10.1   1-9=ok
    mod       ban=null                       | 9.1   10.1   1-9=ok
    mod       invite=true                    | 9.1   10.1   1-9=ok
    alice     users_default=[]               | 9.1   10.1   1-9=ok
    alice     events_default={}              | 9.1   10.1   1-9=ok
    alice     state_default=""               | 9.1   10.1   1-9=ok
    alice     kick=false                     | 9.1   10.1   1-9=ok
    alice     redact="x"                     | 9.1   10.1   1-9=ok
    mod       events=[]                      | 9.2   10.2   1-9=9.6.1
    mod       notifications=null             | 9.2   10.2   1-9=ok
    mod       events/m.room.name="50"        | 9.2   10.2   1-9=ok
    mod       notifications/room=true        | 9.2   10.2   1-9=ok
    mod       users=[]                       | 9.3   10.3
    mod       users=null                     | 9.3   10.3
    mod       users/@bob:b="1"               | 9.3   10.3   1-9=ok
    mod       users/@bob:b="51"            | 9.3   10.3   1-9=9.9.1
    mod       users/@bob:b=51.5            | 9.3   10.3   1-9=9.9.1
    mod       users/@bob:b=50.9            | 9.3   10.3   1-9=ok
    mod       users/@bob:b=true            | 9.3   10.3   1-9=ok
    mod       users/@bob:b=null            | 9.3   10.3
    mod       users/@bob:b="x"             | 9.3   10.3
    mod       users/@bob:b="50.5"          | 9.3   10.3
    mod       users/@bob:b=""              | 9.3   10.3
    mod       users/@max:m="+0050"         | 9.3   10.3   1-9=ok
    mod       users/@max:m="-50"           | 9.3   10.3   1-9=9.8.1
    mod       redact="100"                 | 9.1   10.1   1-9=ok
    mod       redact="99"                  | 9.1   10.1   1-9=9.5.1
    mod       invite="51"                  | 9.1   10.1   1-9=9.5.2
    mod       events/m.room.encryption="9" | 9.2   10.2   1-9=9.6.1
    mod       events/m.room.topic="51"     | 9.2   10.2   1-9=9.7.1
    mod       users/bob=1                    | 9.3   10.3
    mod       users/@bob=1                   | 9.3   10.3
    alice     users/@alice:a=100             | ok    10.4
    alice     users/@alice:a=101             | 9.9.1 10.4
    mod       redact=50                      | 9.5.1 10.6.1
    mod       redact=gone                    | 9.5.1 10.6.1
    mod       redact=100                     | ok
    mod       invite=50                      | ok
    mod       invite=51                      | 9.5.2 10.6.2
    mod       users_default=51               | 9.5.2 10.6.2
    alice     redact=gone                    | ok
    mod       events/m.room.encryption=50    | 9.6.1 10.7.1
    mod       events/m.room.encryption=gone  | 9.6.1 10.7.1
    mod       events/m.room.name=0           | ok
    mod       events/m.room.name=51          | 9.7.1 10.8.1
    mod       events/m.room.topic=51         | 9.7.1 10.8.1
    mod       events/m.room.topic=50         | ok
    mod       notifications/room=51          | 9.7.1 10.8.1 1-5=ok
    mod       notifications/room=gone        | ok
    alice     events/m.room.encryption=gone  | ok
    mod       users/@max:m=0                 | 9.8.1 10.9.1
    mod       users/@max:m=100               | 9.8.1 10.9.1
    mod       users/@max:m=gone              | 9.8.1 10.9.1
    mod       users/@max:m=50                | ok
    mod       users/@mod:m=0                 | ok
    mod       users/@mod:m=gone              | ok
    mod       users/@mod:m=51                | 9.9.1 10.10.1
    mod       users/@bob:b=51                | 9.9.1 10.10.1
    mod       users/@bob:b=50                | ok
    alice     users/@max:m=gone              | ok
""")
def test_levels_change(row: Row) -> str:
    sender, change = row.words
    room, state = room_with(row.version, {})
    content = json.loads(json.dumps(power_levels(row.version)))
    _apply(content, change)
    state["m.room.power_levels", ""].content["events"]["m.room.power_levels"] = 50
    if isinstance(content["events"], dict):
        content["events"]["m.room.power_levels"] = 50
    return rule_of(allowed(room.event("$E", "m.room.power_levels", sender, "", content), state))


def _apply(content: dict[str, Any], change: str) -> None:
    path, _, value = change.partition("=")
    *parents, last = path.split("/")
    target = content[parents[0]] if parents else content
    if value == "gone":
        target.pop(last, None)
    elif path != "nothing":
        target[last] = json.loads(value)


@in_every_version
def test_the_first_levels_are_free(version: str) -> None:
    room = RoomEvents(version)
    state = state_of([room.create, room.member("alice", "join")])
    content = {"users": {user("bob"): 200}, "ban": 200, "events": {"m.x": 200}}
    assert allowed(room.event("$E", "m.room.power_levels", "alice", "", content), state) is None


@by_version("ok", "10.4")
def test_creators_are_not_listed(version: str, rule: str) -> None:
    room = RoomEvents(version, "alice", {"additional_creators": ["@bob:b"]})
    state = state_of([room.create, room.member("alice", "join")])
    content = {"users": {user("bob"): 50}}
    assert rule_of(allowed(room.event("$E", "m.room.power_levels", "alice", "", content), state)) == rule


WRITTEN = [
    *((50, 50), ("50", 50), ("+50", 50), ("-50", -50), (" 0050 ", 50), ("\t7\n", 7)),
    *((50.9, 50), (-1.5, -1), (5.114698e4, 51146)),
    *(("", None), ("x", None), ("5.0", None), ("5e1", None), ("- 5", None), (None, None), ([], None), ({}, None)),
]


@in_every_version
@pytest.mark.parametrize(("written", "meant"), WRITTEN, ids=repr)
def test_what_stands_for_a_level(version: str, written: Any, meant: int | None) -> None:
    room = RoomEvents(version)
    content = {"users": {user("bob"): written}, "ban": written, "events": {"m.x": written}, "kick": 5}
    levels = PowerLevels.of(room.create, room.state("m.room.power_levels", "", "alice", content))
    if int(version) >= 10 and type(written) is not int:
        meant = None
    assert levels.user(user("bob")) == (meant or 0)
    assert levels.named("ban") == levels.required("m.x", is_state=True) == (50 if meant is None else meant)
    assert levels.named("kick") == 5
