"""The algorithm of version 1: depth decides, and rooms may fall back to an older state."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha1

from annals.matrix.state_resolution import resolve
from tests.matrix.state_resolution.story import LazySource, Source, Story, load_and_resolve
from tests.support.room_events import RoomEvents, State, state_of, user


def test_what_only_one_state_has_is_no_conflict() -> None:
    story = Story("1")
    story.topic("T", "bob", after="START")
    story.member("EVE", "eve", "eve", "join", after="START")
    assert story.outcome("T", "EVE") == {"T", "EVE"}


def test_the_deepest_topic_that_is_allowed_wins() -> None:
    story = Story("1")
    story.topic("T1", "alice", after="START")
    story.topic("T2", "bob", after="START")
    assert story.outcome("T1", "T2") == {"T2"}
    story.member("KICK", "alice", "bob", "leave", after="START")
    assert story.outcome("T1", "T2", "KICK") == {"T1", "KICK"}


def test_of_equal_depth_the_lower_digest_wins() -> None:
    room = RoomEvents("1")
    topics = [replace(room.event(name, "m.room.topic", "alice", "", {}), depth=9) for name in ("$T1", "$T2", "$T3")]
    room.events |= {topic.event_id: topic for topic in topics}
    begun = [room.create, room.member("alice", "join")]
    sets = [{event.key: event.event_id for event in (*begun, topic)} for topic in topics]
    lowest = min("$T1", "$T2", "$T3", key=lambda event_id: sha1(event_id.encode()).hexdigest())
    assert resolve(room.rules, sets, Source(room.events))["m.room.topic", ""] == lowest


def test_the_chain_of_power_levels_stops_at_the_first_that_is_not_allowed() -> None:
    story = Story("1")
    story.levels("A", "alice", {"bob": 0}, after="START")
    story.levels("B", "bob", {"bob": 50, "carol": 50}, after="START")
    story.levels("C", "alice", {"bob": 0, "dave": 10}, after="A")
    # A demotes bob, so B is not allowed behind it: the chain stops there, and C, deeper, never has its turn.
    assert story.outcome("A", "B", "C") == {"A"}
    assert story.outcome("A", "C") == {"C"}


def test_power_then_doors_then_members_then_the_rest() -> None:
    """Each pass is judged by what the passes before it came to."""
    story = Story("1")
    story.levels("POWER2", "alice", {"bob": 0}, after="START")
    story.join_rule("BY_BOB", "bob", "invite", after="START")
    story.join_rule("BY_ALICE", "alice", "knock", after="START")
    story.levels("POWER3", "alice", {"bob": 0}, after="POWER2")
    story.assume("ONE", after="POWER3", RULE="BY_BOB")
    story.assume("TWO", after="POWER2", RULE="BY_ALICE")
    # BY_BOB is the oldest of the two and starts the chain without being judged.
    assert story.outcome("ONE", "TWO") == {"POWER3", "BY_ALICE"}
    story.topic("T1", "alice", after="START")
    story.topic("T2", "bob", after="START")
    story.assume("THREE", after="ONE", POWER3="POWER3")
    story.after["THREE"]["m.room.topic", ""] = "$T2"
    story.after["TWO"]["m.room.topic", ""] = "$T1"
    assert "T1" in story.outcome("THREE", "TWO"), "bob has no power any more"


def test_a_rejected_event_is_no_candidate_and_authorises_nothing() -> None:
    story = Story("1")
    story.topic("T1", "alice", after="START")
    story.topic("T2", "bob", after="START")
    story.source.refused.add("$T2")
    assert story.outcome("T1", "T2") == {"T1"}
    story.source.refused.add("$T1")
    assert story.outcome("T1", "T2") == set()
    story.source.refused.clear()
    story.source.refused.add("$BOB")
    assert story.outcome("T1", "T2") == {"T1"}


def test_where_nothing_is_allowed_the_oldest_stays() -> None:
    room = RoomEvents("1")
    topics = [room.event(name, "m.room.topic", "bob", "", {}) for name in ("$OLD", "$NEW")]
    state: State = state_of([room.create, room.member("bob", "leave", sender="alice")])
    sets = [{key: e.event_id for key, e in (state | {topic.key: topic}).items()} for topic in topics]
    assert resolve(room.rules, sets, Source(room.events))["m.room.topic", ""] == "$OLD"


def test_a_conflict_of_one_key_is_read_alone() -> None:
    """No auth chain is walked, and of the agreed state only what authorises."""
    story = Story("1")
    story.topic("T1", "alice", after="START")
    story.topic("T2", "alice", after="START")
    lazy = LazySource(story.room.events)
    sets = [story.after["T1"], story.after["T2"]]
    resolved = load_and_resolve(story.rules, sets, lazy)
    assert resolved["m.room.topic", ""] == "$T2"
    assert lazy.read == {"$T1", "$T2", "$CREATE", "$ALICE", "$POWER"}
    assert lazy.round_trips == 2
    assert resolved["m.room.member", user("dave")] == "$DAVE"
