"""The answer to a join for a server that takes a partial state: small, and enough to judge the join and name a room."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from annals.matrix.auth_rules import allowed
from annals.matrix.canonical_json import loads
from annals.matrix.events import Event, parse_event
from annals.matrix.identifiers import domain_of
from annals.queries.federation.joining import RoomAnswers
from tests.support.federation_fixtures import logged, member
from tests.support.room_weaver import ALICE, BOB, CAROL, MEMBER, RULES, VERSIONS, Weaver, plain_room
from tests.support.sync_world import World

ERIN = "@erin:new"
NAME, ALIAS = "m.room.name", "m.room.canonical_alias"


def _asked(world: World, weaver: Weaver, event: Event, *, omit_members: bool = True) -> bytes:
    answers = RoomAnswers(world.database, "test")
    join = answers.join_answer(weaver.room_id, event.pdu, event.event_id, omit_members=omit_members)
    return asyncio.run(join)


def _events(weaver: Weaver, pdus: list[dict[str, Any]]) -> dict[str, Event]:
    events = [parse_event(pdu, weaver.rules) for pdu in pdus]
    return {event.event_id: event for event in events}


def _cited(weaver: Weaver, event: Event) -> set[str]:
    # From version 12 on the create event is cited by none, and belongs to the chain of all.
    implied = weaver.rules.room_id_is_create_hash and event.type != "m.room.create"
    return {*event.auth_events, *(["$" + weaver.room_id[1:]] if implied else [])}


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("seed", range(3))
def test_a_partial_state_is_enough_to_judge_the_join(world: World, seed: int, version: str, named: bool) -> None:
    weaver = Weaver(version, random.Random(seed))
    if named:
        weaver.add((NAME, ALICE, "", {"name": "A room"}))
    logged(world, weaver.grow(60))
    oracle = weaver.oracle
    joins = [event for event in weaver.events if event.type == MEMBER and event.content["membership"] == "join"]
    judged = [event for event in joins if oracle.verdicts[event.event_id] == "accepted"]
    assert len(judged) > 3
    for event in judged:
        answer = loads(_asked(world, weaver, event))
        before = oracle.before[event.event_id]
        state, chain = _events(weaver, answer["state"]), _events(weaver, answer["auth_chain"])
        assert {held.key: event_id for event_id, held in state.items()}.items() <= before.items()
        left_out = set(before.values()) - state.keys()
        assert {oracle.events[event_id].type for event_id in left_out} <= {MEMBER}
        assert answer["members_omitted"] == bool(left_out)
        assert allowed(event, {held.key: held for held in state.values()}) is None
        # The chain is whole, holds nothing twice, and nothing that nobody cites.
        cited = set().union(*(_cited(weaver, held) for held in (event, *state.values(), *chain.values())))
        assert cited <= state.keys() | chain.keys()
        assert chain.keys() == cited - state.keys()
        members = [oracle.events[held] for (event_type, _), held in before.items() if event_type == MEMBER]
        joined = [held for held in members if held.content["membership"] == "join"]
        assert answer["servers_in_room"] == sorted({domain_of(str(held.state_key)) for held in joined})


def test_what_the_join_cites_comes_along_though_the_state_has_moved_on(world: World) -> None:
    weaver = plain_room("12")
    weaver.add((NAME, ALICE, "", {"name": "A room"}))
    wish = (MEMBER, ERIN, ERIN, {"membership": "join"})
    cited = weaver.oracle.permitting(weaver.oracle.current, wish)
    weaver.add((RULES, ALICE, "", {"join_rule": "public", "org.example": "again"}))
    event = weaver.add(wish, auth=cited)
    logged(world, weaver)
    answer = loads(_asked(world, weaver, event))
    state, chain = _events(weaver, answer["state"]), _events(weaver, answer["auth_chain"])
    assert set(cited) - state.keys(), "the join rules of before"
    assert set(cited) <= state.keys() | chain.keys()


def _members(world: World, weaver: Weaver, user: str = ERIN) -> list[str | None]:
    """Of whom a server hears that joins for this user."""
    first = len(weaver.events)
    event = weaver.add((MEMBER, user, user, {"membership": "join"}))
    logged(world, weaver, first)
    pdus = loads(_asked(world, weaver, event))["state"]
    return sorted(pdu["state_key"] for pdu in pdus if pdu["type"] == MEMBER)


@pytest.mark.parametrize("naming", [(NAME, {"name": "A room"}), (ALIAS, {"alias": "#room:test"})])
def test_of_a_room_without_a_name_those_come_along_whom_it_is_named_after(world: World, naming: Any) -> None:
    weaver = plain_room("12")
    many = [f"@many{number}:other" for number in range(6)]
    for user in many:
        member(weaver, user, "join")
    member(weaver, ALICE, "leave")
    logged(world, weaver)
    # As in the summary of a /sync: five, the first that came and are there.
    assert _members(world, weaver) == sorted([BOB, CAROL, *many[:3]])
    # Who was there before is given the event that stands for them, and is none of those.
    assert _members(world, weaver, BOB) == sorted([BOB, CAROL, *many[:4]])
    first = len(weaver.events)
    weaver.add((naming[0], BOB, "", naming[1]))
    logged(world, weaver, first)
    assert _members(world, weaver, "@late:elsewhere") == []


def test_a_room_that_all_have_left_is_named_after_them(world: World) -> None:
    weaver = plain_room("12")
    for user in (BOB, CAROL, ALICE):
        member(weaver, user, "leave")
    logged(world, weaver)
    assert _members(world, weaver) == [ALICE, BOB, CAROL]


def test_a_large_room_costs_a_small_answer(world: World) -> None:
    weaver = plain_room("12")
    weaver.add((NAME, ALICE, "", {"name": "A room"}))
    for number in range(150):
        member(weaver, f"@many{number}:other", "join")
    logged(world, weaver)
    first = len(weaver.events)
    event = weaver.add((MEMBER, ERIN, ERIN, {"membership": "join"}))
    logged(world, weaver, first)
    full, partial = (_asked(world, weaver, event, omit_members=few) for few in (False, True))
    assert 4 * len(partial) <= len(full)
    assert loads(partial)["members_omitted"] is True
    assert loads(full)["members_omitted"] is False
    assert len([pdu for pdu in loads(full)["state"] if pdu["type"] == MEMBER]) == 153
