"""Events that come before what they refer to: parked, wanted, woken, given up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from types import FrameType

import pytest

from annals.matrix.events import Event, parse_event
from annals.rooms import parking
from annals.schemas.facts.decisions import Decision, Verdict, WantedClosed, WantedOpened
from annals.schemas.facts.rooms import GapAbandoned
from tests.support.room_weaver import ALICE, BOB, CAROL, DAVE, MEMBER, Weaver, driver_of, plain_room
from tests.support.rooms import Driver, created, envelope, fetched, received

both = pytest.mark.parametrize("cold", [False, True])


def _abandoned(weaver: Weaver, *events: Event) -> GapAbandoned:
    return GapAbandoned(envelope(), weaver.room_id, tuple(event.event_id for event in events), "nobody has it")


def _line(weaver: Weaver, count: int) -> list[Event]:
    return [weaver.add(("m.room.message", ALICE, None, {"n": number})) for number in range(count)]


def _stray(weaver: Weaver, sender: str, number: int, prev: str) -> Event:
    """A message upon something that is not here; it cites what is."""
    made = weaver.build(("m.room.message", sender, None, {"n": number}), [weaver.events[-1].event_id])
    return parse_event({**made.pdu, "prev_events": [prev]}, weaver.rules)


def _told(decisions: tuple[Decision, ...]) -> list[tuple[str, str]]:
    found = []
    for decision in decisions:
        if isinstance(decision, Verdict):
            found.append((decision.verdict, decision.event_id))
        elif isinstance(decision, WantedOpened):
            found.append((f"wanted {decision.kind}", decision.event_id))
        elif isinstance(decision, WantedClosed):
            found.append((decision.outcome, decision.event_id))
    return found


@both
def test_what_is_wanted_and_what_is_not(cold: bool) -> None:
    """The missing event is wanted; a descendant of a parked one waits for that and wants nothing."""
    weaver = plain_room()
    events = _line(weaver, 3)
    one, two, three = (event.event_id for event in events)
    driver = driver_of(weaver, weaver.events[:-3], cold=cold)
    assert _told(driver.feed(received(events[1]))) == [("parked", two), ("wanted prev", one)]
    assert _told(driver.feed(received(events[2]))) == [("parked", three)]
    woken = driver.feed(received(events[0]))
    assert _told(woken) == [("accepted", one), ("came", one), ("accepted", two), ("accepted", three)]
    # What they are about, and when they became visible, differ.
    offset = driver.offset - 1
    assert [decision.source for decision in woken] == [offset, offset, offset - 2, offset - 1]
    assert [decision.position >> 20 for decision in woken] == [offset] * 4


@both
def test_a_wanted_event_that_is_parked_is_wanted_no_more(cold: bool) -> None:
    weaver = plain_room()
    events = _line(weaver, 3)
    one, two, three = (event.event_id for event in events)
    driver = driver_of(weaver, weaver.events[:-3], cold=cold)
    driver.feed(received(events[2]))
    assert driver.tables.wanted == {two}
    assert _told(driver.feed(received(events[1]))) == [("parked", two), ("came", two), ("wanted prev", one)]
    assert driver.tables.wanted == {one}
    driver.feed(received(events[0]))
    assert driver.tables.wanted == set()
    assert list(driver.tables.extremities) == [three]


@both
def test_the_lowest_offset_is_woken_first(cold: bool) -> None:
    weaver = plain_room()
    head = weaver.events[-1].event_id
    root = weaver.add(("m.room.message", ALICE, None, {"n": "root"}), [head])
    leaves = [weaver.add(("m.room.message", ALICE, None, {"n": n}), [root.event_id]) for n in range(8)]
    last = weaver.add(("m.room.message", ALICE, None, {}), [leaves[5].event_id])
    driver = driver_of(weaver, weaver.events[:-10], cold=cold)
    order = [last, *Random(1).sample(leaves, 8)]
    driver.feed(*map(received, order))
    judged = [d.event_id for d in driver.feed(received(root)) if isinstance(d, Verdict)]
    # `last` has the lowest offset, and is ready as soon as leaf 5 is.
    at = order.index(leaves[5])
    assert judged == [root.event_id, *(e.event_id for e in [*order[1 : at + 1], last, *order[at + 1 :]])]


@both
def test_auth_events_are_waited_for(cold: bool) -> None:
    weaver = plain_room()
    dave = "@dave:other"
    join = weaver.add((MEMBER, dave, dave, {"membership": "join"}))
    said = weaver.add(("m.room.message", dave, None, {}))
    driver = driver_of(weaver, weaver.events[:-2], cold=cold)
    assert _told(driver.feed(fetched(said, "state"))) == [("parked", said.event_id), ("wanted auth", join.event_id)]
    assert _told(driver.feed(fetched(join, "auth"))) == [
        ("accepted", join.event_id),
        ("came", join.event_id),
        ("accepted", said.event_id),
    ]


@both
@pytest.mark.parametrize("version", ["10", "12"])
def test_a_room_that_begins_with_its_end(version: str, cold: bool) -> None:
    """In version 12 nothing cites the create event: it is waited for all the same."""
    weaver = plain_room(version)
    driver = Driver(weaver.room_id, cold=cold)
    create, *others = weaver.events
    for event in others:
        driver.feed(fetched(event, "auth"))
        assert driver.verdict(event.event_id) == "parked"
    driver.feed(fetched(create, "auth"))
    assert {row["verdict"].verdict for row in driver.tables.events.values()} == {"accepted"}
    driver.feed(*map(received, weaver.events))
    assert driver.tables.current == weaver.oracle.current


@both
def test_a_gap_that_is_given_up(cold: bool) -> None:
    weaver = plain_room()
    head = weaver.events[-1].event_id
    gap, one, two = _line(weaver, 3)
    other = weaver.add(("m.room.message", ALICE, None, {"n": "other"}), [head])
    lone = weaver.add(("m.room.message", ALICE, None, {"n": "lone"}), [other.event_id])
    merge = weaver.add(("m.room.message", ALICE, None, {"n": "merge"}), [two.event_id, lone.event_id])
    driver = driver_of(weaver, weaver.events[:-6], cold=cold)
    driver.feed(*map(received, [merge, two, one]))
    assert driver.tables.wanted == {gap.event_id, lone.event_id}
    decisions = driver.feed(_abandoned(weaver, gap))
    # What only the dropped ones lacked is wanted no more.
    assert _told(decisions) == [
        ("abandoned", gap.event_id),
        ("dropped", merge.event_id),
        ("abandoned", lone.event_id),
        ("dropped", two.event_id),
        ("dropped", one.event_id),
    ]
    assert driver.tables.wanted == set()
    assert driver.feed(_abandoned(weaver, gap)) == ()
    # They may come again.
    driver.feed(*map(received, [one, other, gap, lone, merge]))
    assert driver.verdict(merge.event_id) == "parked"
    driver.feed(received(two))
    assert list(driver.tables.extremities) == [merge.event_id]
    assert driver.tables.wanted == set()


@both
def test_what_has_come_meanwhile_is_not_given_up(cold: bool) -> None:
    weaver = plain_room()
    one, two, three = _line(weaver, 3)
    driver = driver_of(weaver, weaver.events[:-3], cold=cold)
    driver.feed(received(three), received(two))
    assert driver.feed(_abandoned(weaver, two)) == ()
    driver.feed(received(one))
    assert list(driver.tables.extremities) == [three.event_id]


@both
def test_the_parking_place_is_bounded(cold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "PARKED_EVENTS_MAX", 3)
    weaver = plain_room()
    first, *others = _line(weaver, 6)
    driver = driver_of(weaver, weaver.events[:-6], cold=cold)
    driver.feed(*map(received, others))
    verdicts = [driver.verdict(event.event_id) for event in others]
    assert verdicts == ["parked", "parked", "parked", "dropped", "dropped"]
    assert driver.tables.events[others[4].event_id]["verdict"].reason == "parking_full"
    driver.feed(received(first), *map(received, others[3:]))
    assert list(driver.tables.extremities) == [others[4].event_id]
    assert driver.tables.wanted == set()


@both
def test_who_fills_the_parking_place_pushes_out_its_own(cold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "PARKED_EVENTS_MAX", 6)
    weaver = plain_room()
    driver = driver_of(weaver, cold=cold)
    # What Carol's server sends stands on what nobody has.
    flood = [_stray(weaver, CAROL, n, f"${n:043d}") for n in range(7)]
    driver.feed(*map(received, flood))
    assert [driver.verdict(event.event_id) for event in flood] == ["parked"] * 6 + ["dropped"]
    hidden = _stray(weaver, ALICE, 9, weaver.events[-1].event_id)
    good = [_stray(weaver, ALICE, n, hidden.event_id) for n in range(4)]
    wanted = len(driver.tables.wanted)
    driver.feed(*map(received, good))
    # Three of hers make room for three of Alice's, then both servers have their half.
    assert [driver.verdict(event.event_id) for event in good] == ["parked"] * 3 + ["dropped"]
    assert [driver.verdict(event.event_id) for event in flood] == ["parked"] * 3 + ["dropped"] * 4
    dropped = driver.tables.events[flood[3].event_id]["verdict"]
    assert (dropped.reason, dropped.first) == ("parking_full", False)
    assert len(driver.tables.wanted) == wanted - 3 + 1, "what only they lacked is wanted no more"
    driver.feed(received(hidden))
    assert [driver.verdict(event.event_id) for event in good[:3]] == ["accepted"] * 3
    driver.feed(received(good[3]))
    assert driver.verdict(good[3].event_id) == "accepted"


@both
def test_what_was_pushed_out_takes_along_what_waits_for_it(cold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "PARKED_EVENTS_MAX", 4)
    weaver = plain_room()
    driver = driver_of(weaver, cold=cold)
    flood = [_stray(weaver, CAROL, n, f"${n:043d}") for n in range(3)]
    after = _stray(weaver, BOB, 0, flood[2].event_id)
    driver.feed(*map(received, (*flood, after)))
    last = _stray(weaver, DAVE, 0, "$" + "x" * 43)
    driver.feed(received(last))
    assert [driver.verdict(event.event_id) for event in (*flood, after, last)] == [
        *("parked", "parked", "dropped", "dropped"),
        "parked",
    ]


@both
def test_an_event_of_ours_never_parks(cold: bool) -> None:
    weaver = plain_room()
    one, two = _line(weaver, 2)
    driver = driver_of(weaver, weaver.events[:-2], cold=cold)
    assert _told(driver.feed(created(two, "txn"))) == [("dropped", two.event_id)]
    assert driver.tables.wanted == set()
    assert driver.tables.events[two.event_id]["verdict"].reason == "ancestor_not_here"
    driver.feed(received(one), received(two))
    assert driver.verdict(two.event_id) == "accepted"


@both
@pytest.mark.parametrize("verdict", ["rejected", "soft_failed"])
def test_an_event_of_ours_may_follow_one_that_was_refused(verdict: str, cold: bool) -> None:
    """Where a mended rule refuses what an older one let in, what was said behind it stands (ADR 0011)."""
    weaver = plain_room()
    then = weaver.events[-1].event_id
    mallory = "@dave:other" if verdict == "rejected" else "@carol:peer"
    weaver.add((MEMBER, ALICE, "@carol:peer", {"membership": "ban"}))
    driver = driver_of(weaver, cold=cold)
    bad = weaver.add(("m.room.message", mallory, None, {}), [then])
    ours = weaver.add(("m.room.message", ALICE, None, {}), [bad.event_id])
    behind = weaver.add(("m.room.message", ALICE, None, {}), [ours.event_id])
    driver.feed(received(bad), created(ours), created(behind))
    assert driver.verdict(bad.event_id) == verdict
    assert [driver.verdict(event.event_id) for event in (ours, behind)] == ["accepted", "accepted"]


def _calls(work: Callable[[], object]) -> int:
    """How many Python functions are called meanwhile: what it costs, on a busy machine too."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_a_full_parking_place_is_cheap() -> None:
    """Hundreds of parked events cost other facts next to nothing, and are woken in linear time."""
    weaver = plain_room()
    head = weaver.events[-1].event_id
    events = _line(weaver, 401)
    aside = [weaver.add(("m.room.message", ALICE, None, {"aside": n}), [head]) for n in range(50)]
    driver = driver_of(weaver, weaver.events[:6])
    alone = _calls(lambda: driver.feed(*map(received, aside)))
    driver = driver_of(weaver, weaver.events[:6])
    driver.feed(*map(received, reversed(events[1:])))
    assert len(driver.view.known_header().parked) == 400
    beside = _calls(lambda: driver.feed(*map(received, aside)))
    assert beside < 2 * alone
    woken = _calls(lambda: driver.feed(received(events[0])))
    assert woken < 400 * alone / 50 * 4
    assert len(driver.view.known_header().parked) == 0
