"""Joins that share a verdict: what the rules could tell apart is in their facts."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pytest

from annals.matrix.auth_events import CREATE, JOIN_RULES, auth_types_for
from annals.matrix.auth_rules import allowed
from annals.matrix.auth_rules.own_join import is_own_join, own_join_facts
from annals.matrix.events import Event
from tests.matrix.auth_rules.cast import MEMBERSHIPS, room_with
from tests.support.room_events import RoomEvents, State, user

RULES = ("absent", "public", "invite", "knock", "restricted", "knock_restricted", "odd")


def _join(room: RoomEvents, name: str, **content: Any) -> Event:
    return room.state("m.room.member", user(name), name, {"membership": "join", **content})


@pytest.mark.parametrize("version", ["2", "6", "7", "8", "10", "11", "12"])
def test_equal_facts_equal_verdicts(version: str) -> None:
    """Over all join rules, memberships and power levels; a rejection's rule and reason are equal too."""
    verdicts: dict[Hashable, object] = {}
    judged = shared = 0
    for rule in RULES:
        for settings in ({}, {"invite": "100"}, {"power_levels": "absent"}):
            room, state = room_with(version, {"rule": rule, **settings})
            for name in (*MEMBERSHIPS, "carol", "zoe"):
                for event in (_join(room, name), _join(room, name, displayname="x")):
                    judged += 1
                    shared += _agrees(verdicts, rule, event, state)
    assert judged == len(RULES) * 60
    # Events of one room at least: each name twice.
    assert shared >= judged // 2


def _agrees(verdicts: dict[Hashable, object], rule: str, event: Event, state: State) -> bool:
    assert is_own_join(event)
    keys = {CREATE, *auth_types_for(event.type, event.sender, event.state_key, event.content, event.rules)}
    auth = {key: state[key] for key in keys if key in state}
    facts = own_join_facts(event, auth.get(CREATE), auth.get(JOIN_RULES), auth.get(event.key))
    assert facts is not None
    verdict = allowed(event, auth)
    # Power levels are no part of the facts: over rooms that differ in them, the rule stands for the join rules' id.
    assert isinstance(facts, tuple)
    facts = (rule, facts[2])
    known = facts in verdicts
    assert verdicts.setdefault(facts, verdict) == verdict
    return known


def test_what_the_rules_read_more_of_is_judged_alone() -> None:
    room, state = room_with("11", {"rule": "public"})
    create, rule = state[CREATE], state[JOIN_RULES]
    event = _join(room, "zoe")
    assert own_join_facts(event, create, rule, None) == (create.event_id, rule.event_id, None)
    assert own_join_facts(event, None, rule, None) is None
    first = replace(event, prev_events=(create.event_id,))
    assert own_join_facts(first, create, rule, None) is None
    closed = replace(create, content={**create.content, "m.federate": False})
    assert own_join_facts(event, closed, rule, None) is None
    odd = room.state("m.room.member", user("zoe"), "zoe", {"membership": ["join"]})
    assert own_join_facts(event, create, rule, odd) is None
    assert not is_own_join(odd)
    assert not is_own_join(_join(room, "zoe", join_authorised_via_users_server=user("mod")))
    assert not is_own_join(room.state("m.room.member", user("zoe"), "mod", {"membership": "join"}))
