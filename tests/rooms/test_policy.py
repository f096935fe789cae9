"""Check 7: events that lack the signature of the room's policy server wait for the answer about them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.events import Event
from annals.matrix.signing import SigningKey
from annals.rooms.admission import event_in
from annals.rooms.machine import decide
from annals.rooms.needs import Needs
from annals.rooms.view import learn
from annals.schemas.facts.decisions import Verdict
from annals.schemas.facts.rooms import PolicyAnswered, RoomFact, RoomResumed
from annals.schemas.position import offset_of
from tests.support.policed_rooms import (
    OTHER_KEY,
    POLICY,
    POLICY_KEY,
    answer,
    content_of,
    policed_room,
    recommended,
    signed,
)
from tests.support.room_weaver import ALICE, BOB, CAROL, MEMBER, Weaver, driver_of, plain_room
from tests.support.rooms import Driver, created, envelope, fetched, received
from tests.support.soak import few_examples

both = pytest.mark.parametrize("cold", [False, True])


def last(driver: Driver, event: Event) -> Verdict:
    verdict: Verdict = driver.tables.events[event.event_id]["verdict"]
    return verdict


def say(weaver: Weaver, upon: Event | None = None, sender: str = ALICE) -> Event:
    return weaver.add(("m.room.message", sender, None, {}), None if upon is None else [upon.event_id])


def topic(weaver: Weaver, name: str = "x", upon: Event | None = None) -> Event:
    return weaver.add(("m.room.topic", ALICE, "", {"topic": name}), None if upon is None else [upon.event_id])


def begin(weaver: Weaver, cold: bool = False) -> Driver:
    """The room as it is now, all of it recommended."""
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(*(received(recommended(event)) for event in weaver.events))
    return driver


@both
@pytest.mark.parametrize("version", ["10", "12"])
def test_a_recommended_event_is_accepted_at_once(version: str, cold: bool) -> None:
    weaver = policed_room(version)
    driver = begin(weaver, cold)
    event = say(weaver)
    driver.feed(received(recommended(event)))
    assert driver.verdict(event.event_id) == "accepted"
    assert set(driver.tables.extremities) == {event.event_id}


@both
@pytest.mark.parametrize(
    "spoilt", [lambda e: e, lambda e: recommended(e, key=OTHER_KEY), lambda e: recommended(e, "other")]
)
def test_any_other_waits_neither_shown_nor_followed(spoilt: Any, cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    before = dict(driver.tables.extremities), dict(driver.tables.current)
    event = topic(weaver)
    driver.feed(received(spoilt(event)))
    assert (last(driver, event).verdict, last(driver, event).reason) == (
        "pending_policy",
        "policy_server_not_asked_yet",
    )
    assert (driver.tables.extremities, driver.tables.current) == before
    assert driver.feed(received(spoilt(event))) == (), "a repeat of it says nothing new"


@both
@pytest.mark.parametrize(
    ("outcome", "key", "verdict", "reason"),
    [
        ("signed", POLICY_KEY, "accepted", None),
        ("signed", OTHER_KEY, "soft_failed", "wrong_policy_signature"),
        ("signed", None, "soft_failed", "wrong_policy_signature"),
        ("refused", None, "soft_failed", "refused_by_policy_server"),
        ("unavailable", None, "soft_failed", "policy_server_unavailable"),
        ("of another time", None, "soft_failed", "refused_by_policy_server"),
    ],
)
def test_the_answer_decides(outcome: str, key: SigningKey | None, verdict: str, reason: str | None, cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    heads = set(driver.tables.extremities)
    event = topic(weaver)
    driver.feed(received(event), answer(event, outcome, key=key))
    assert (last(driver, event).verdict, last(driver, event).reason) == (verdict, reason)
    accepted = verdict == "accepted"
    assert set(driver.tables.extremities) == ({event.event_id} if accepted else heads)
    assert (("m.room.topic", "") in driver.tables.current) is accepted
    assert offset_of(last(driver, event).position) == driver.offset - 1, "it becomes visible with the answer"
    assert last(driver, event).source == driver.offset - 2
    assert driver.feed(answer(event, "refused"), signed(event)) == (), "nothing is asked of it any more"


@both
def test_an_event_behind_it_goes_on_and_stays_the_head(cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    first = topic(weaver)
    second = say(weaver, first)
    driver.feed(received(first), received(recommended(second)))
    assert driver.verdict(second.event_id) == "accepted"
    # As of what is soft-failed, the state behind it has it.
    assert driver.tables.current["m.room.topic", ""] == first.event_id
    driver.feed(signed(first))
    assert driver.verdict(first.event_id) == "accepted"
    assert set(driver.tables.extremities) == {second.event_id}
    assert driver.tables.current["m.room.topic", ""] == first.event_id


@both
def test_a_chain_of_them_in_any_order_of_answers(cold: bool) -> None:
    weaver = policed_room()
    start = list(weaver.events)
    chain = [topic(weaver, "1")]
    chain += [say(weaver, chain[-1])]
    chain += [topic(weaver, "2", chain[-1])]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]):
        driver = Driver(weaver.room_id, cold=cold)
        driver.feed(*(received(recommended(event)) for event in start), *map(received, chain))
        assert {driver.verdict(event.event_id) for event in chain} == {"pending_policy"}
        driver.feed(*(signed(chain[index]) for index in order))
        assert set(driver.tables.extremities) == {chain[-1].event_id}
        assert driver.tables.current["m.room.topic", ""] == chain[-1].event_id


@both
def test_a_fork_has_both_heads(cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    here = weaver.events[-1]
    left, right = say(weaver, here), say(weaver, here, BOB)
    driver.feed(received(left), received(recommended(right)), signed(left))
    assert set(driver.tables.extremities) == {left.event_id, right.event_id}


@both
def test_who_was_banned_meanwhile_is_soft_failed(cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    here = weaver.events[-1]
    late = say(weaver, here, BOB)
    ban = weaver.add((MEMBER, ALICE, BOB, {"membership": "ban"}), [here.event_id])
    driver.feed(received(late), received(recommended(ban)), signed(late))
    assert (last(driver, late).verdict, last(driver, late).rule) != ("accepted", None)
    assert driver.verdict(late.event_id) == "soft_failed"


@both
def test_a_policy_server_can_be_dismissed_without_its_word(cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    here = weaver.events[-1]
    waits = say(weaver, here)
    none = weaver.add((POLICY, ALICE, "", {}), [here.event_id])
    driver.feed(received(waits), received(none))
    assert driver.verdict(none.event_id) == "accepted"
    after = say(weaver, none)
    driver.feed(received(after))
    assert driver.verdict(after.event_id) == "accepted"
    assert driver.verdict(waits.event_id) == "pending_policy"
    driver.feed(answer(waits, "unneeded", server=""))
    assert driver.verdict(waits.event_id) == "accepted"


@both
def test_an_answer_of_another_server_is_none(cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    here = weaver.events[-1]
    waits = say(weaver, here)
    dave = weaver.add((MEMBER, "@dave:other", "@dave:other", {"membership": "join"}), [here.event_id])
    other = weaver.add((POLICY, ALICE, "", content_of("other", OTHER_KEY)), [dave.event_id])
    driver.feed(received(waits), received(recommended(dave)), received(other))
    for nothing in (signed(waits), answer(waits, "refused"), answer(waits, "unneeded", server="")):
        assert driver.feed(nothing) == ()
    driver.feed(answer(waits, "signed", "other", OTHER_KEY))
    assert driver.verdict(waits.event_id) == "accepted"


@both
def test_one_that_is_not_in_the_room_is_not_used(cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    gone = weaver.add((MEMBER, CAROL, CAROL, {"membership": "leave"}))
    after = say(weaver)
    # In one batch, and with views that know of it from the tables alone.
    driver.feed(received(recommended(gone)), received(after))
    assert [driver.verdict(event.event_id) for event in (gone, after)] == ["accepted", "accepted"]
    back = weaver.add((MEMBER, CAROL, CAROL, {"membership": "join"}))
    waits = say(weaver)
    driver.feed(received(back), received(waits))
    assert [driver.verdict(event.event_id) for event in (back, waits)] == ["accepted", "pending_policy"]


def test_within_a_batch_it_is_known_who_came_and_left() -> None:
    """The tables are told of a batch when it is over."""
    weaver = policed_room()
    driver = begin(weaver)
    gone = weaver.add((MEMBER, CAROL, CAROL, {"membership": "leave"}))
    after = say(weaver)
    back = weaver.add((MEMBER, CAROL, CAROL, {"membership": "join"}))
    waits = say(weaver)
    view, verdicts = driver.view, []
    for offset, fact in enumerate(map(received, (recommended(gone), after, back, waits)), driver.offset):
        while isinstance(outcome := decide(view, fact, offset, epoch=1), Needs):
            view = learn(view, driver.tables.load(outcome))
        view = outcome.view
        verdicts += [decision.verdict for decision in outcome.decisions if isinstance(decision, Verdict)]
    assert verdicts == ["accepted", "accepted", "accepted", "pending_policy"]


def test_a_room_without_one_costs_no_question_more() -> None:
    weaver = plain_room()
    driver = driver_of(weaver, cold=True)
    driver.feed(received(say(weaver)))
    keys = [{key[2:] for key in needs.state_keys} for needs in driver.asked]
    [with_others] = [asked for asked in keys if (POLICY, "") in asked]
    assert len(with_others) > 1
    assert not any(needs.servers for needs in driver.asked)


@both
@pytest.mark.parametrize(
    "content",
    [{}, {"via": "nobody.example", "public_keys": {"ed25519": "x"}}, {"via": "", "public_keys": {"ed25519": ""}}],
)
def test_a_room_that_names_nobody_asks_nobody(content: dict[str, Any], cold: bool) -> None:
    weaver = plain_room()
    weaver.add((POLICY, ALICE, "", content))
    message = say(weaver)
    driver = driver_of(weaver, cold=cold)
    assert driver.verdict(message.event_id) == "accepted"


@both
def test_a_redacted_policy_names_nobody(cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    redaction = weaver.add(("m.room.redaction", ALICE, None, {"redacts": weaver.events[-1].event_id}))
    after = say(weaver)
    driver.feed(received(recommended(redaction)), received(after))
    assert driver.verdict(after.event_id) == "accepted"


@both
def test_only_the_state_event_without_a_key_is_exempt(cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    keyed = weaver.add((POLICY, ALICE, "x", content_of()))
    message = weaver.add((POLICY, ALICE, None, content_of()))
    driver.feed(received(keyed), received(message))
    assert [driver.verdict(event.event_id) for event in (keyed, message)] == ["pending_policy"] * 2


@both
def test_ours_the_past_and_outliers_are_not_asked_about(cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    ours, past, outlier = say(weaver), say(weaver), topic(weaver)
    driver.feed(created(ours), fetched(past, "backfill"), fetched(outlier, "state"))
    assert [driver.verdict(event.event_id) for event in (ours, past, outlier)] == ["accepted"] * 3


@both
def test_what_is_redacted_while_it_waits_comes_redacted(cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    waits = say(weaver)
    redaction = weaver.add(("m.room.redaction", ALICE, None, {"redacts": waits.event_id}), [waits.event_id])
    driver.feed(received(waits), received(recommended(redaction)), signed(waits))
    assert driver.verdict(waits.event_id) == "accepted"
    assert driver.tables.events[waits.event_id]["redacted_by"] == redaction.event_id


@both
def test_a_redaction_that_waits_redacts_once_it_is_accepted(cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    message = say(weaver)
    redaction = weaver.add(("m.room.redaction", ALICE, None, {"redacts": message.event_id}))
    driver.feed(received(recommended(message)), received(redaction))
    assert driver.tables.events[message.event_id]["redacted_by"] is None
    driver.feed(signed(redaction))
    assert driver.tables.events[message.event_id]["redacted_by"] == redaction.event_id


@both
def test_an_answer_that_waited_in_a_halted_room(cold: bool) -> None:
    weaver = policed_room()
    driver = begin(weaver, cold)
    waits = say(weaver)
    driver.feed(received(waits))
    driver.halt(received(say(weaver, waits)), "a mistake")
    driver.feed(signed(waits), answer(waits, "refused"))
    assert driver.verdict(waits.event_id) == "pending_policy"
    driver.feed(RoomResumed(envelope(), weaver.room_id, "@admin:test", "mended", ()))
    assert driver.verdict(waits.event_id) == "accepted"


def _facts(weaver: Weaver, rng: Random) -> list[RoomFact]:
    """Some of it recommended, and answers about everything, after some of what follows it."""
    facts: list[RoomFact] = []
    for event in weaver.events:
        facts.append(received(recommended(event) if rng.random() < 0.6 else event))
        outcome = rng.choice(["signed", "signed", "refused", "unavailable", "unneeded"])
        said: PolicyAnswered = answer(event, outcome, key=POLICY_KEY if outcome == "signed" else None)
        facts.append(said)
    for _ in range(len(facts) // 2):
        at = rng.randrange(20, len(facts))
        if isinstance(facts[at], PolicyAnswered):
            facts.insert(rng.randrange(at, len(facts)), facts.pop(at))
    return facts


@few_examples(8)
@given(st.integers(0, 2**32 - 1))
def test_decisions_do_not_depend_on_what_is_in_memory(seed: int) -> None:
    rng = Random(seed)
    weaver = policed_room(rng.choice(["10", "12"]))
    weaver.rng = rng
    weaver.grow(12)
    facts = _facts(weaver, rng)
    drivers = Driver(weaver.room_id), Driver(weaver.room_id, cold=True)
    for driver in drivers:
        driver.feed(*facts)
    assert drivers[0].encoded() == drivers[1].encoded()
    heads = [driver.view.known_header().extremities for driver in drivers]
    assert set(heads[0]) == set(heads[1]) == set(drivers[0].tables.extremities)
    _no_head_is_followed(drivers[0])


def _no_head_is_followed(driver: Driver) -> None:
    """Nor is one whose place in the graph was made before, and its verdict after those behind it."""
    heads = set(driver.tables.extremities)
    followed: set[str] = set()
    todo = [other for head in heads for other in _prev(driver, head)]
    while todo:
        event_id = todo.pop()
        if event_id not in followed:
            followed.add(event_id)
            todo += _prev(driver, event_id)
    assert heads
    assert not followed & heads


def _prev(driver: Driver, event_id: str) -> tuple[str, ...]:
    row = driver.tables.events.get(event_id)
    return event_in(row["fact"]).prev_events if row else ()
