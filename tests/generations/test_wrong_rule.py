"""A wrong rule of the room machine is mended: deciding anew, the diff, the switch, and what clients then believe.

While the fault is on, the server lets anybody set anything. What it accepted so is what the diff names, and nothing
else; clients whose token is older than the switch are told that room anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.support.backends import LogBackend
from tests.support.crashes import wait_ready
from tests.support.matrix_client import Client, register
from tests.support.operators import PATIENCE_S, REASON, annals, killed, rows, serving, watched
from tests.support.servers import Serve, until

WRONG_RULE = Path(__file__).parents[1] / "support" / "wrong_rule"
THING = "org.example.thing"
REBUILD, TRANSACTIONS = "annals.projectors.rebuild", "annals.projectors.transaction"
#: Before there are tables, when partitions are taken, before and after a commit, and when all is done.
KILLS = (
    (REBUILD, "create_generation", 1, "before"),
    ("annals.projectors.loop", "Loop.take", 1, "after"),
    (TRANSACTIONS, "Transactions._commit", 1, "before"),
    (TRANSACTIONS, "Transactions._commit", 1, "after"),
    (REBUILD, "Pace.rest", 1, "before"),
)


@dataclass
class View:
    """What a client knows of its rooms, by /sync alone."""

    client: Client
    since: str | None = None
    rooms: dict[str, dict[tuple[str, str], str]] = field(default_factory=dict)
    limited: set[str] = field(default_factory=set)

    def sync(self) -> None:
        """One /sync. A limited timeline makes the client begin the room anew, as clients do."""
        answer = self.client.sync(self.since, timeout=0)
        self.since = answer["next_batch"]
        self.limited = set()
        for room_id, room in answer.get("rooms", {}).get("join", {}).items():
            if room.get("timeline", {}).get("limited"):
                self.limited.add(room_id)
                self.rooms[room_id] = {}
            state = self.rooms.setdefault(room_id, {})
            for event in (*room.get("state", {}).get("events", ()), *room.get("timeline", {}).get("events", ())):
                if "state_key" in event:
                    state[event["type"], event["state_key"]] = event["event_id"]

    def truth(self, room_id: str) -> dict[tuple[str, str], str]:
        """What the server says now."""
        return {(event["type"], event["state_key"]): event["event_id"] for event in self.client.state(room_id)}


@dataclass(frozen=True)
class Scene:
    """Who is where. `bad`: by damaged room, key and event that the wrong rule let in; `good`: the one before."""

    serve: Serve
    views: tuple[View, ...]
    sound: str
    bad: dict[str, tuple[tuple[str, str], str]]
    good: dict[str, str | None]

    @property
    def damaged(self) -> list[str]:
        return sorted(self.bad)


@pytest.fixture(scope="module")
def scene(log_backend: LogBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("wrong-rule")
    fault = folder / "fault"
    path = os.pathsep.join(filter(None, (str(WRONG_RULE), os.environ.get("PYTHONPATH"))))
    environment = {"PYTHONPATH": path, "TEST_WRONG_RULE_FILE": str(fault), **log_backend.environment()}
    with Serve(folder, **environment) as serve:
        serve.start()
        wait_ready(serve)
        ann, bob, cat, dan = (register(serve.port, name) for name in ("ann", "bob", "cat", "dan"))
        one, two, sound = (ann.create_room(preset="public_chat", topic="right") for _ in range(3))
        for room_id in (one, two, sound):
            for client in (bob, cat, dan):
                client.room(room_id, "join")
                client.say(room_id, "hello")
        keys = {one: ("m.room.topic", ""), two: (THING, "x")}
        good = {room_id: View(ann).truth(room_id).get(key) for room_id, key in keys.items()}
        fault.touch()
        bad = {
            room_id: (key, bob.set_state(room_id, key[0], {"topic": "wrong"}, key[1])) for room_id, key in keys.items()
        }
        # What was said behind it names it as a prev event, and is not lost with it.
        for room_id in bad:
            cat.say(room_id, "behind")
        fault.unlink()
        cat.say(sound, "later")
        views = tuple(View(client) for client in (ann, bob, cat, dan))
        for view in views:
            view.sync()
            assert all(view.rooms[room_id][key] == event_id for room_id, (key, event_id) in bad.items())
        yield Scene(serve, views, sound, bad, good)


def test_deciding_anew_sends_nothing_and_survives_kills(scene: Scene) -> None:
    words = ("replay", "--into", "g2", "--mode", "recompute")
    for kill in KILLS:
        killed(scene.serve, kill, *words)
    assert watched(scene.serve, *words, "--follow") == "watched [] []"


def test_the_diff_names_exactly_the_damaged_keys(scene: Scene) -> None:
    (line,) = annals(scene.serve, "diff", "--json", "g1", "g2", status=1)
    found = json.loads(line)
    assert [room["room_id"] for room in found["rooms"]] == scene.damaged
    for room in found["rooms"]:
        key, event_id = scene.bad[room["room_id"]]
        (differs,) = room["keys"]
        assert (differs["type"], differs["state_key"]) == key
        assert (differs["left"], differs["right"]) == (event_id, scene.good[room["room_id"]])
        (judged,) = room["events"]
        assert judged["event_id"] == event_id
        assert judged["left"] == {"verdict": "accepted", "rule": None, "reason": None}
        assert (judged["right"]["verdict"], judged["right"]["reason"]) == ("rejected", "too_little_power")
        assert judged["right"]["rule"]
    assert found["wanted"] == []
    lines = annals(scene.serve, "diff", "g1", "g2", status=1)
    assert [line for line in lines if not line.startswith(" ")] == scene.damaged
    for _, event_id in scene.bad.values():
        assert any("rule" in line and event_id in line for line in lines)


@pytest.mark.parametrize(("_", "name"), [("there", "g2"), ("back", "g1"), ("again", "g2")])
def test_after_the_switch_every_client_has_the_room_as_the_server_has_it(scene: Scene, _: str, name: str) -> None:
    assert serving(scene.serve) != name
    assert annals(scene.serve, "switch", name, *REASON) == scene.damaged
    for room_id in scene.damaged:
        until(partial(_told, scene.serve, name, room_id), PATIENCE_S, "the room has its fact")
    for view in scene.views:
        view.sync()
        assert view.limited == set(scene.damaged)
        for room_id in (*scene.damaged, scene.sound):
            assert view.rooms[room_id] == view.truth(room_id)
            said = [event["content"].get("body") for event in view.client.history(room_id)]
            assert ("later" if room_id == scene.sound else "behind") in said
        for room_id, (key, event_id) in scene.bad.items():
            assert view.rooms[room_id].get(key) == (event_id if name == "g1" else scene.good[room_id])
        # And once only: the next token goes on by position.
        view.sync()
        assert view.limited == set()


def test_the_room_goes_on_as_it_is_believed_now(scene: Scene) -> None:
    ann = scene.views[0].client
    for room_id, (key, _) in scene.bad.items():
        event_id = ann.set_state(room_id, key[0], {"topic": "mended"}, key[1])
        for view in scene.views:
            view.sync()
            assert view.rooms[room_id][key] == event_id
            assert view.rooms[room_id] == view.truth(room_id)


def test_a_fold_that_is_killed_goes_on_from_its_cursor(scene: Scene) -> None:
    words = ("replay", "--into", "g3", "--mode", "fold")
    for side in ("before", "after"):
        killed(scene.serve, (REBUILD, "Cursors.save", 1, side), *words)
    assert rows(scene.serve, "SELECT 1 FROM ops.cursors WHERE worker LIKE 'replay g3 from g2 %%'")
    annals(scene.serve, *words)
    lines = annals(scene.serve, "diff", "--rows", "g2", "g3")
    assert {line.split()[-1] for line in lines} == {"equal"}


def _told(serve: Serve, name: str, room_id: str) -> bool:
    """Whether the last switch has reached the room's row."""
    sql = (
        f"SELECT 1 FROM {name}.rooms r, ops.switches s, json_array_elements(s.vector::json) v"
        " WHERE r.room_id = %s AND v->>0 = 'rooms' AND (v->>1)::int = r.partition"
        " GROUP BY r.resumed_position HAVING r.resumed_position >> 20 >= max((v->>2)::bigint)"
    )
    return bool(rows(serve, sql, room_id))
