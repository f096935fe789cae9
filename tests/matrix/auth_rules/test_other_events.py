"""Rules 3 and 5 to 8: everything that is neither creation, membership nor power levels.

In version 12 these are 4 and 6 to 9; in versions 1 to 5 they are 3 and 6 to 9, and 4 is aliases. Versions 1 and 2 have
rule 11, redactions.
"""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.auth_rules import allowed
from annals.matrix.events import event_of
from tests.matrix.auth_rules.cast import room_with, settings_of
from tests.matrix.auth_rules.tables import Row, by_version, in_every_version, rows, rule_of
from tests.support.room_events import RoomEvents, state_of, user


@rows("""
    # room                sender  type                        state key
                          carol   m.room.message              -         | 5 6
                          erin    m.room.message              -         | 5 6
                          dave    m.room.topic                ''        | 5 6
                          gina    m.room.third_party_invite   token     | 5 6
                          bob     m.room.message              -         | ok
                          bob     m.room.third_party_invite   token     | ok
    invite=50             bob     m.room.third_party_invite   token     | 6.1 7.1
    invite=50             mod     m.room.third_party_invite   token     | ok
    invite=50             alice   m.room.third_party_invite   @bob:b    | ok
    events_default=10     bob     m.room.message              -         | 7 8
    events_default=10     mod     m.room.message              -         | ok
    users_default=10      bob     m.room.topic                ''        | 7 8
    users_default=50      bob     m.room.topic                ''        | ok
                          bob     m.room.topic                ''        | 7 8
                          mod     m.room.topic                ''        | ok
    state_default=0       bob     m.room.topic                ''        | ok
    state_default=0       bob     m.room.name                 ''        | 7 8
    state_default=0       mod     m.room.encryption           ''        | 7 8
                          alice   m.room.encryption           ''        | ok
    power_levels=absent   bob     m.room.message              -         | ok
    power_levels=absent   mod     m.room.topic                ''        | 7 8
    power_levels=absent   alice   m.room.topic                ''        | ok
    state_default=0       bob     org.example.x               @bob:b    | ok
    state_default=0       bob     org.example.x               @mod:m    | 8 9
                          alice   org.example.x               @mod:m    | 8 9
                          alice   org.example.x               @         | 8 9
                          alice   org.example.x               mod       | ok
    redact=100            bob     m.room.redaction            -         | ok
    events_default=10     bob     m.room.redaction            -         | 7 8
                          bob     m.room.aliases              b         | 7 8 1-5=ok
                          mod     m.room.aliases              a         | ok  1-5=aliases
                          carol   m.room.aliases              c         | 5 6 1-5=ok
                          dave    m.room.aliases              d         | 5 6 1-5=ok
                          alice   m.room.aliases              ''        | ok  1-5=aliases
""")
def test_an_event_is_sent(row: Row) -> str:
    settings, (sender, event_type, state_key) = settings_of(row.words)
    room, state = room_with(row.version, settings)
    key = {"-": None, "''": ""}.get(state_key, state_key)
    rule = rule_of(allowed(room.event("$E", event_type, sender, key, {}), state))
    return "aliases" if int(row.version) <= 5 and rule == "4.2" else rule


@in_every_version
def test_aliases_have_a_state_key(version: str) -> None:
    room, state = room_with(version, {})
    aliases = room.event("$E", "m.room.aliases", "bob", None, {"aliases": []})
    assert rule_of(allowed(aliases, state)) == ("4.1" if int(version) <= 5 else "ok")


@in_every_version
@pytest.mark.parametrize(
    ("sender", "target", "rule"),
    [
        ("alice", "$target:m", "ok"),
        ("bob", "$target:b", "ok"),
        ("bob", "$target:m", "11.3"),
        ("mod", "$target:b", "11.3"),
        ("mod", "$target", "11.3"),
        ("bob", None, "ok"),
        ("bob", 1, "ok"),
    ],
)
def test_a_redaction_is_judged_in_versions_1_and_2(version: str, sender: str, target: Any, rule: str) -> None:
    """The level for it is 100 in this room, and the servers are those of the event ids."""
    room, state = room_with(version, {})
    redaction = room.event(f"$E:{sender[0]}", "m.room.redaction", sender, None, {})
    redaction = event_of(redaction.pdu | {"redacts": target}, room.rules, redaction.event_id)
    assert rule_of(allowed(redaction, state)) == (rule if int(version) <= 2 else "ok")


@pytest.mark.parametrize(
    ("federate", "federated"), [(True, True), (False, False), (None, False), ("true", False), (1, False)]
)
@by_version("3", "4")
def test_a_room_that_is_not_federated(version: str, rule: str, federate: Any, federated: bool) -> None:
    room = RoomEvents(version, "alice", {"m.federate": federate})
    state = state_of([room.create, room.member("alice", "join"), room.member("bob", "join")])
    found = rule_of(allowed(room.event("$E", "m.room.message", "bob", None, {}), state))
    assert found == ("ok" if federated else rule)
    assert allowed(room.event("$E", "m.room.message", "alice", None, {}), state) is None
    invite = room.event("$E", "m.room.member", "alice", user("carol"), {"membership": "invite"})
    assert rule_of(allowed(invite, state)) == ("ok" if federated else rule)


@by_version("2.4", "2")
def test_without_a_create_event_nothing_is_allowed(version: str, rule: str) -> None:
    room, state = room_with(version, {"rule": "public"})
    message = room.event("$E", "m.room.message", "alice", None, {})
    assert allowed(message, state) is None
    del state["m.room.create", ""]
    assert rule_of(allowed(message, state)) == rule


def test_in_version_12_the_room_id_names_the_create_event() -> None:
    room, state = room_with("12", {})
    elsewhere = room.event("$E", "m.room.message", "alice", None, {}, room_id="!OTHER")
    assert rule_of(allowed(elsewhere, state)) == "2"
