"""A room that fails stops alone, on a running server, and goes on when an operator says so."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from annals.eventlog.partition import partition_of
from annals.server.cli import main
from tests.support.crashes import Whole, wait_ready
from tests.support.matrix_client import Unexpected, timeline
from tests.support.operators import wait_patiently
from tests.support.servers import about_data

pytestmark = pytest.mark.one_log


@pytest.fixture
def annals(whole: Whole, no_settings: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command on the server's data; (status, lines, complaints)."""
    for name, value in about_data(whole.serve.environment).items():
        monkeypatch.setenv(name, value)
    wait_patiently(monkeypatch)

    def run(*words: str) -> tuple[int, list[str], str]:
        capsys.readouterr()
        status = main(list(words))
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    return run


def refused(whole: Whole, room_id: str, text: str, txn: str) -> None:
    with pytest.raises(Unexpected) as caught:
        whole.ann.say(room_id, text, txn=txn)
    assert caught.value.status == 503


def test_a_room_that_fails_stops_alone_and_can_be_resumed(whole: Whole, annals: Any) -> None:
    resume = partial(annals, "room", "resume", "--actor", "olga", "--reason", "mended")
    wait_ready(whole.serve)
    ann, bob = whole.ann, whole.bob
    # In one partition, so that they share a batch, a step's order and a decisions topic.
    rooms: dict[int, list[str]] = {}
    while not (same := [found for found in rooms.values() if len(found) == 3]):
        room_id = ann.create_room(preset="public_chat")
        rooms.setdefault(partition_of(room_id, 8), []).append(room_id)
    by_decision, by_fold, healthy = same[0]
    for room_id in same[0]:
        bob.room(room_id, "join")
    since = bob.sync(patient=True)["next_batch"]

    whole.fault.touch()
    refused(whole, by_decision, "FAULT-DECIDE", "d1")
    refused(whole, by_fold, "FAULT-FOLD", "f1")
    refused(whole, by_decision, "it stands", "d2")
    went_on = ann.say(healthy, "goes on")
    assert timeline(bob.sync(since), healthy) == [went_on]
    assert timeline(bob.sync(since), by_decision) == []

    status, lines, complaint = annals("rooms", "halted", "--json")
    assert (status, complaint) == (0, "")
    halted = {entry["room_id"]: entry for entry in map(json.loads, lines)}
    assert halted.keys() == {by_decision, by_fold}
    assert "injected: FAULT-DECIDE" in halted[by_decision]["error"]
    assert "injected: FAULT-FOLD" in halted[by_fold]["error"]

    # To go on without leaving the record out, while the fault is there, stops it again.
    status, _, complaint = resume(by_decision)
    assert status == 1
    assert f"{by_decision} stands still again: RuntimeError: injected" in complaint
    waiting = halted[by_decision]["waiting"]
    status, lines, complaint = resume(by_decision, "--skip", str(waiting[0]))
    assert (status, complaint) == (0, "")
    assert lines[-1].startswith(f"{by_decision} goes on: ")
    assert lines[-1].endswith("1 left out")
    ann.say(by_decision, "goes on without it", patient=True)

    # The fault is mended: nothing is left out.
    whole.fault.unlink()
    assert resume(by_fold)[0] == 0
    said = ann.say(by_fold, "FAULT-FOLD", txn="f1", patient=True)
    assert [event["event_id"] for event in bob.history(by_fold)].count(said) == 1
    assert [event["content"].get("body") for event in bob.history(by_fold)].count("FAULT-FOLD") == 1
    # What was left out is sent by the client's retry, once.
    again = ann.say(by_decision, "FAULT-DECIDE", txn="d1", patient=True)
    assert [event["event_id"] for event in bob.history(by_decision)].count(again) == 1

    # A token of before sees the rooms anew; what is said since comes to it.
    news = bob.sync(since, patient=True)["rooms"]["join"]
    assert (news[by_decision]["timeline"]["limited"], news[by_fold]["timeline"]["limited"]) == (True, True)
    assert said in [event["event_id"] for event in news[by_fold]["timeline"]["events"]]
    assert not news[healthy]["timeline"]["limited"]
    assert annals("rooms", "halted")[1] == ["no room stands still"]
