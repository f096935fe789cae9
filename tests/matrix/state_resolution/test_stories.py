"""Forks, and what is left of them."""

from __future__ import annotations

import pytest

from tests.matrix.state_resolution.story import Story
from tests.support.at_once import at_once

ALL = at_once("version", ["2", "9", "10", "11", "12"])


@ALL
def test_alice_bans_bob_while_bob_takes_power(version: str) -> None:
    story = Story(version)
    story.member("BAN", "alice", "bob", "ban", after="START")
    story.levels("COUP", "bob", {"bob": 50, "carol": 50}, after="START")
    assert story.outcome("BAN", "COUP") == {"BAN"}


@ALL
def test_a_ban_wins_over_what_its_victim_did_meanwhile(version: str) -> None:
    story = Story(version)
    story.member("BAN", "alice", "bob", "ban", after="START")
    story.topic("T1", "bob", after="START")
    story.topic("T2", "bob", after="T1")
    story.member("KICK", "bob", "carol", "leave", after="T2")
    assert story.outcome("BAN", "KICK") == {"BAN"}


@ALL
def test_what_the_victim_did_before_the_ban_stays(version: str) -> None:
    story = Story(version)
    story.topic("T1", "bob", after="START")
    story.member("BAN", "alice", "bob", "ban", after="T1")
    story.topic("T2", "alice", after="T1")
    assert story.outcome("BAN", "T2") == {"BAN", "T2"}


@ALL
def test_nobody_slips_in_while_the_door_is_shut(version: str) -> None:
    story = Story(version)
    story.join_rule("SHUT", "alice", "invite", after="START")
    story.member("EVE", "eve", "eve", "join", after="START")
    assert story.outcome("SHUT", "EVE") == {"SHUT"}


@ALL
def test_who_came_before_the_door_was_shut_stays_if_all_knew(version: str) -> None:
    """The door is a power event and is judged first, so a join that only one branch knows falls with it."""
    story = Story(version)
    story.member("EVE", "eve", "eve", "join", after="START")
    story.join_rule("SHUT", "alice", "invite", after="EVE")
    story.topic("T1", "bob", after="EVE")
    assert story.outcome("SHUT", "T1") == {"EVE", "SHUT", "T1"}
    story.topic("T2", "bob", after="START")
    assert story.outcome("SHUT", "T2") == {"SHUT", "T2"}


@ALL
def test_a_demotion_wins_over_what_the_demoted_did(version: str) -> None:
    story = Story(version)
    story.levels("DEMOTE", "alice", {"bob": 0}, after="START")
    story.levels("BY_BOB", "bob", {"bob": 50, "carol": 25}, after="START")
    story.topic("T", "bob", after="BY_BOB")
    assert story.outcome("DEMOTE", "T") == {"DEMOTE"}


@ALL
def test_a_topic_is_not_reset_by_an_older_branch(version: str) -> None:
    """Mainline ordering: what cites newer power levels comes later, whatever its clock says."""
    story = Story(version)
    story.topic("OLD", "bob", after="START", ts_ms=9_000_000)
    story.levels("POWER2", "alice", {"bob": 50, "carol": 50}, after="START")
    story.topic("NEW", "carol", after="POWER2", ts_ms=1)
    assert story.outcome("OLD", "NEW") == {"POWER2", "NEW"}


@ALL
def test_what_knew_no_levels_is_older_than_all(version: str) -> None:
    story = Story(version)
    story.topic("EARLY", "alice", after="ALICE", ts_ms=9_000_000)
    story.topic("LATE", "bob", after="START", ts_ms=1)
    assert story.resolved("EARLY", "LATE")["m.room.topic", ""] == "$LATE"


@ALL
def test_among_equals_the_later_clock_wins_then_the_greater_id(version: str) -> None:
    story = Story(version)
    story.topic("A", "bob", after="START", ts_ms=5)
    story.topic("B", "alice", after="START", ts_ms=4)
    story.topic("C", "alice", after="START", ts_ms=5)
    assert story.outcome("A", "B") == {"A"}
    assert story.outcome("A", "C") == {"C"}
    assert story.outcome("C", "B", "A") == {"C"}


@ALL
def test_power_events_go_by_power_then_clock(version: str) -> None:
    """Alice's change comes first although her clock is late; Bob's, allowed by it, comes after and stays."""
    story = Story(version)
    story.levels("A", "alice", {"bob": 50, "carol": 10}, after="START", ts_ms=9_000_000)
    story.levels("B", "bob", {"bob": 50, "dave": 10}, after="START", ts_ms=1)
    assert story.outcome("A", "B") == {"B"}


@ALL
def test_three_branches_at_once(version: str) -> None:
    story = Story(version)
    story.member("KICK", "bob", "carol", "leave", after="START")
    story.member("BAN", "alice", "bob", "ban", after="START")
    story.member("DAVE2", "dave", "dave", "join", after="START")
    assert story.outcome("KICK", "BAN", "DAVE2") == {"BAN", "DAVE2"}


@ALL
def test_a_rejected_event_does_not_come_in(version: str) -> None:
    story = Story(version)
    story.topic("T1", "bob", after="START")
    story.topic("T2", "alice", after="START")
    story.source.refused.add("$T2")
    assert story.outcome("T1", "T2") == {"T1"}


@ALL
def test_a_rejected_event_authorises_nothing(version: str) -> None:
    story = Story(version)
    story.member("EVE", "eve", "eve", "join", after="START")
    story.levels("POWER2", "alice", {"eve": 50}, after="EVE")
    story.topic("T", "eve", after="POWER2")
    assert story.outcome("START", "T") == {"EVE", "POWER2", "T"}
    story.source.refused.add("$EVE")
    assert story.outcome("START", "T") == {"POWER2"}


@ALL
def test_a_rejected_event_in_all_states_does_not_count(version: str) -> None:
    story = Story(version)
    story.topic("T1", "bob", after="START")
    story.topic("T2", "bob", after="START")
    story.member("BAN", "alice", "bob", "ban", after="START")
    story.source.refused.add("$BAN")
    for name in ("T1", "T2"):
        story.assume(f"{name}_BANNED", after=name, BOB="BAN")
    assert story.outcome("T1_BANNED", "T2_BANNED") == {"BAN", "T2"}


# MSC4297, "Problems with the existing algorithm": one server answers with a state that is partly old.


@pytest.mark.parametrize(("version", "survives"), [("10", set()), ("11", set()), ("12", {"RULE2"})])
def test_problem_a_events_judged_by_a_state_they_never_knew(version: str, survives: set[str]) -> None:
    """All agree that alice has left. The old and the new join rule conflict, and both are hers."""
    story = Story(version)
    story.join_rule("RULE2", "alice", "knock", after="START")
    story.member("LEFT", "alice", "alice", "leave", after="RULE2")
    story.assume("OLD", after="LEFT", RULE2="RULE")
    resolved = story.resolved("LEFT", "OLD")
    rule = resolved.get(("m.room.join_rules", ""))
    assert ({rule[1:]} if rule else set()) == survives
    assert story.outcome("LEFT", "OLD") - {"LEFT"} == survives


@pytest.mark.parametrize(("version", "survives"), [("10", "POWER"), ("11", "POWER"), ("12", "POWER3")])
def test_problem_b_what_lies_between_is_not_replayed(version: str, survives: str) -> None:
    """Alice promoted carol, who promoted dave; one state has the levels from before both, and the other ends."""
    story = Story(version)
    story.levels("POWER2", "alice", {"bob": 50, "carol": 90}, after="START")
    story.levels("POWER3", "carol", {"bob": 50, "carol": 90, "dave": 80}, after="POWER2")
    story.member("EVE", "eve", "eve", "join", after="POWER3")
    story.assume("OLD", after="EVE", POWER3="POWER")
    assert story.resolved("EVE", "OLD")["m.room.power_levels", ""] == f"${survives}"
