"""Events of ours in a room with a policy server: its signature is got before they are logged, or nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from annals.commands.errors import Refused
from annals.commands.rooms.builder import RoomBuilder
from annals.commands.rooms.plans import Send, Sent
from annals.commands.rooms.sending import send
from annals.federation import errors
from annals.matrix.canonical_json import loads
from annals.matrix.events import Event, event_of
from annals.matrix.policy_servers import PolicyServer, is_signed_by, signature_in
from annals.rooms.heads import Intent
from annals.schemas.facts.rooms import PduCreated
from tests.support.driven_builder import builder_of
from tests.support.policed_rooms import POLICY, POLICY_KEY, content_of, policed_room, recommended
from tests.support.room_weaver import ALICE, BOB
from tests.support.rooms import Driver, received

SERVER = PolicyServer("peer", POLICY_KEY.verify_key.base64)


class PolicyPeer:
    """The policy server. `says` raises what it refuses by."""

    def __init__(self, says: Callable[[Event], None] = lambda event: None) -> None:
        self.says = says
        self.asked: list[Event] = []

    async def sign_soon(self, event: Event, server: PolicyServer) -> str:
        """Sign it, or not."""
        assert server == SERVER
        await asyncio.sleep(0)
        self.asked.append(event)
        self.says(event)
        return signature_in(recommended(event).pdu["signatures"], "peer") or ""


def refuses(status: int, errcode: str, message: str = "spam") -> Callable[[Event], None]:
    def say(event: Event) -> None:
        raise errors.Refused("peer", status, errcode, message, 7_000 if status == 429 else None)

    return say


def room(policy: PolicyPeer) -> tuple[Driver, RoomBuilder]:
    weaver = policed_room()
    driver = Driver(weaver.room_id)
    driver.feed(*(received(recommended(event)) for event in weaver.events))
    return driver, builder_of(driver, policy)[0]


def message(key: str, sender: str = ALICE) -> Intent:
    return Intent(sender, "m.room.message", {"body": key}, idempotency_key=key)


async def carried_out(builder: RoomBuilder, *intents: Intent) -> list[Sent | BaseException]:
    return await asyncio.gather(*[builder.carry_out(send(intent)) for intent in intents], return_exceptions=True)


def logged(driver: Driver) -> list[Event]:
    facts = [fact for fact in driver.tables.facts.values() if isinstance(fact, PduCreated)]
    rules = driver.view.known_header().rules
    assert rules is not None
    return [event_of(loads(fact.skeleton), rules, fact.event_id) for fact in facts]


def test_what_is_logged_bears_the_signature() -> None:
    policy = PolicyPeer()
    driver, builder = room(policy)
    answers = asyncio.run(carried_out(builder, message("one"), message("two", BOB), message("three")))
    assert all(isinstance(answer, Sent) for answer in answers), answers
    events = logged(driver)
    assert [event.event_id for event in events] == [a.event_ids[0] for a in answers if isinstance(a, Sent)]
    assert all(is_signed_by(event, SERVER) for event in events)
    assert all("test" in event.pdu["signatures"] for event in events), "our own stays"
    assert len(policy.asked) == 3, "once each"


def test_several_events_of_one_command_are_each_asked_about_once() -> None:
    policy = PolicyPeer()
    driver, builder = room(policy)
    answer = asyncio.run(builder.carry_out(lambda _: Send((message("one"), message("two"), message("three")))))
    assert [event.event_id for event in logged(driver)] == list(answer.event_ids)
    assert all(is_signed_by(event, SERVER) for event in logged(driver))
    assert len(policy.asked) == 3


@pytest.mark.parametrize(
    ("says", "status", "errcode", "said"),
    [
        (refuses(400, "M_FORBIDDEN", "looks like spam"), 403, "M_FORBIDDEN", "looks like spam"),
        (refuses(403, "M_FORBIDDEN", "you are barred"), 403, "M_FORBIDDEN", "you are barred"),
        (refuses(404, "M_UNRECOGNIZED"), 403, "M_UNRECOGNIZED", "spam"),
        (refuses(400, "", ""), 403, "M_FORBIDDEN", "The room's policy server refuses the event"),
        (refuses(429, "M_LIMIT_EXCEEDED", "later"), 429, "M_LIMIT_EXCEEDED", "later"),
        (refuses(500, "", "oh"), 502, "M_UNKNOWN", "oh"),
    ],
)
def test_what_it_refuses_is_not_logged(says: Any, status: int, errcode: str, said: str) -> None:
    policy = PolicyPeer(says)
    driver, builder = room(policy)
    (answer,) = asyncio.run(carried_out(builder, message("one")))
    assert isinstance(answer, Refused)
    assert (answer.status, answer.errcode, answer.reason) == (status, errcode, said)
    assert answer.extra == ({"retry_after_ms": 7_000} if status == 429 else {})
    assert logged(driver) == []
    assert len(policy.asked) == 1


@pytest.mark.parametrize("error", [errors.Unreachable("peer", "no address"), errors.BadAnswer("peer", "nonsense")])
def test_a_dead_one_costs_the_event_and_not_the_room(error: Exception) -> None:
    def dead(event: Event) -> None:
        raise error

    policy = PolicyPeer(dead)
    driver, builder = room(policy)
    dismissal = Intent(ALICE, POLICY, {}, "")
    first, second, third = asyncio.run(carried_out(builder, message("one"), dismissal, message("two")))
    assert isinstance(first, Refused)
    assert (first.status, first.errcode) == (502, "M_UNKNOWN")
    assert isinstance(second, Sent)
    assert isinstance(third, Sent)
    assert len(policy.asked) == 1, "neither about m.room.policy, nor when there is none any more"
    assert len(logged(driver)) == 2


def test_of_a_group_only_what_is_refused_is_left_out() -> None:
    def picky(event: Event) -> None:
        if event.sender == BOB:
            refuses(400, "M_FORBIDDEN")(event)

    driver, builder = room(PolicyPeer(picky))
    answers = asyncio.run(carried_out(builder, message("one"), message("two", BOB), message("three")))
    assert [isinstance(answer, Sent) for answer in answers] == [True, False, True]
    assert len(logged(driver)) == 2
    assert set(driver.tables.extremities) == {logged(driver)[-1].event_id}


def test_a_retry_of_what_is_logged_is_answered_as_it_was() -> None:
    policy = PolicyPeer()
    driver, builder = room(policy)
    (first,) = asyncio.run(carried_out(builder, message("one")))
    policy.says = refuses(400, "M_FORBIDDEN")
    again, other = asyncio.run(carried_out(builder_of(driver, policy)[0], message("one"), message("new")))
    assert again == first
    assert isinstance(other, Refused)


def test_what_the_room_does_not_allow_is_not_asked_about() -> None:
    policy = PolicyPeer()
    _, builder = room(policy)
    (answer,) = asyncio.run(carried_out(builder, Intent(BOB, POLICY, content_of(), "x")))
    (other,) = asyncio.run(carried_out(builder, Intent("@nobody:test", "m.room.message", {})))
    assert isinstance(other, Refused)
    assert [event.sender for event in policy.asked] == ([BOB] if isinstance(answer, Sent) else [])
