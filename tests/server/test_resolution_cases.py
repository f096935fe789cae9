"""`annals check-resolution`: rooms as JSON lines, judged and resolved."""

from __future__ import annotations

import io
import json
import sys
from random import Random
from typing import Any

import pytest

from annals.matrix.events import Event
from annals.server.cli import main
from annals.server.resolution_cases import answer_line
from tests.differential.grown_room import GrownRoom
from tests.matrix.state_resolution.story import Story
from tests.support.room_events import user
from tests.support.soak import versions

# The rules of each version are other tests' matter: the three algorithms, and the last version.
EACH = pytest.mark.parametrize("version", versions("1", "2", "10", "12"))


def wire(event: Event) -> dict[str, Any]:
    # A story's START is behind dave's join.
    text = json.dumps(event.pdu | {"event_id": event.event_id}).replace('"$START"', '"$DAVE"')
    pdu: dict[str, Any] = json.loads(text)
    return pdu


def case_of(story: Story, *names: str) -> dict[str, Any]:
    sets = [[[*key, event_id] for key, event_id in story.after[name].items()] for name in names]
    events = [wire(event) for event in story.room.events.values()]
    return {"room_version": story.version, "events": events, "state_sets": sets}


def answer(case: Any) -> dict[str, Any]:
    line, is_error = answer_line(json.dumps(case).encode())
    found: dict[str, Any] = json.loads(line)
    assert is_error == ("error" in found)
    return found


def forked(version: str) -> Story:
    """Alice bans bob, who meanwhile gave carol power; mallory sent what nobody allows."""
    story = Story(version)
    story.member("BAN", "alice", "bob", "ban", after="START")
    story.levels("COUP", "bob", {"bob": 50, "carol": 50}, after="START")
    return story


@EACH
def test_a_fork_is_resolved(version: str) -> None:
    story = forked(version)
    found = answer(case_of(story, "BAN", "COUP"))
    expected = story.resolved("BAN", "COUP")
    assert found["resolved"] == sorted([*key, event_id] for key, event_id in expected.items())
    assert found["rejected"] == []
    assert ["m.room.member", user("bob"), "$BAN"] in found["resolved"]


@EACH
def test_what_the_rules_refuse_is_named(version: str) -> None:
    story = forked(version)
    state = {key: story.room.events[event_id] for key, event_id in story.after["BAN"].items()}
    content = {"topic": "mine"}
    cited = story.room.cite(state, "m.room.topic", "bob", "", content)
    joined = [story.room.events["$BOB"] if event.event_id == "$BAN" else event for event in cited]
    # By what it cites; by the state before it alone (it cites bob's join); by citing what was refused.
    story.room.event("$OWN", "m.room.topic", "bob", "", content, prev=["$BAN"], auth=cited)
    story.room.event("$STATE", "m.room.topic", "bob", "", content, prev=["$BAN"], auth=joined)
    bad = story.room.event("$PL", "m.room.power_levels", "bob", "", {"users": {user("bob"): 100}}, prev=["$COUP"])
    cited = [event for event in joined if event.type != "m.room.power_levels"] + [bad]
    story.room.event("$CITING", "m.room.topic", "bob", "", content, prev=["$COUP"], auth=cited)
    # On top of a refused event stands what stood below it.
    story.room.event("$FINE", "m.room.topic", "bob", "", content, prev=["$PL"], auth=joined)
    case = case_of(story, "COUP")
    Random(version).shuffle(case["events"])
    found = answer(case)
    assert found["rejected"] == ["$CITING", "$OWN", "$PL", "$STATE"]
    assert found["resolved"] == sorted([*key, event_id] for key, event_id in story.after["COUP"].items())


@EACH
def test_a_room_of_chance_is_judged_as_it_grew(version: str) -> None:
    room = GrownRoom(Random(f"check {version}"), version, 60)
    question = next(q for q in reversed(room.questions) if q[0] == "resolve")
    expected = room.answers[len(room.questions) - 1 - room.questions[::-1].index(question)]
    events = [wire(event) for event in room.events.values()]
    found = answer({"room_version": version, "events": events, "state_sets": question[1]})
    # Signatures are not looked at here.
    assert set(found["rejected"]) <= room.refused
    assert len(found["rejected"]) > len(room.refused) * 0.7
    if set(found["rejected"]) == room.refused:
        assert found["resolved"] == expected


def changed(case: dict[str, Any], number: int, **keys: Any) -> dict[str, Any]:
    """The case with keys of one event replaced (None: removed)."""
    events = [dict(event) for event in case["events"]]
    events[number] = {key: value for key, value in (events[number] | keys).items() if value is not None}
    return case | {"events": events}


GOOD = case_of(forked("10"), "BAN", "COUP")


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ([], "an object"),
        ({}, "room_version"),
        (GOOD | {"room_version": 10}, "room_version"),
        (GOOD | {"room_version": "13"}, "room_version"),
        (GOOD | {"events": {}}, "events"),
        (GOOD | {"events": [1]}, "an object"),
        (GOOD | {"state_sets": None}, "state_sets"),
        (GOOD | {"state_sets": [{}]}, "state set"),
        (GOOD | {"state_sets": [[["m.room.create", "$CREATE"]]]}, "entry"),
        (GOOD | {"state_sets": [[["m.room.create", "", "$NOWHERE"]]]}, "NOWHERE"),
        (GOOD | {"state_sets": [[["m.room.topic", "", "$CREATE"]]]}, "CREATE"),
        (GOOD | {"state_sets": [[["m.room.create", "", "$CREATE"]] * 2]}, "twice"),
        (GOOD | {"events": GOOD["events"] + GOOD["events"][:1]}, "twice"),
        (GOOD | {"events": GOOD["events"][1:], "state_sets": []}, "not among the events"),
        (changed(GOOD, 2, event_id=None), "event_id"),
        (changed(GOOD, 2, type=None), "type"),
        (changed(GOOD, 2, sender=1), "sender"),
        (changed(GOOD, 2, content=[]), "content"),
        (changed(GOOD, 2, depth="1"), "depth"),
        (changed(GOOD, 2, origin_server_ts=True), "origin_server_ts"),
        (changed(GOOD, 2, room_id=None), "room_id"),
        (changed(GOOD, 2, state_key=1), "state_key"),
        (changed(GOOD, 2, prev_events=None), "prev_events"),
        (changed(GOOD, 2, auth_events=[["$CREATE", {}]]), "auth_events"),
        (changed(GOOD, 2, prev_events=["$BAN"]), "circle"),
        (changed(case_of(forked("1"), "BAN"), 2, prev_events=["$CREATE"]), "hashes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_case_is_said(case: Any, said: str) -> None:
    assert said in answer(case)["error"]


def test_hashes_and_signatures_may_be_left_out() -> None:
    events = [{key: event[key] for key in event if key not in ("hashes", "signatures")} for event in GOOD["events"]]
    assert answer(GOOD | {"events": events}) == answer(GOOD)


def test_no_state_and_one() -> None:
    assert answer(GOOD | {"state_sets": []})["resolved"] == []
    assert answer(GOOD | {"state_sets": GOOD["state_sets"][:1]})["resolved"] == sorted(GOOD["state_sets"][0])


def test_one_bad_line_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    good = json.dumps(GOOD).encode()
    lines = [good, b"{", b"", b'{"room_version": "10"}', b"\xff", b"[" * 300, good]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n".join(lines))))
    assert main(["check-resolution"]) == 1
    answers = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [("error" in found) for found in answers] == [False, True, True, True, True, False]
    assert answers[0] == answers[-1] == answer(GOOD)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(good)))
    assert main(["check-resolution"]) == 0
