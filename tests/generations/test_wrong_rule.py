"""A wrong rule of the room machine is mended: deciding anew, the diff, the switch, and what clients then believe.

While the fault is on, the server lets anybody set anything. What it accepted so is what the diff names, and nothing
else; clients whose token is older than the switch are told that room anew. One who came in, and one who was asked in,
only by what was let through is out of the room with it, and in it again when the switch is taken back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from tests.support.backends import LogBackend
from tests.support.crashes import wait_ready
from tests.support.matrix_client import Client, quote, register
from tests.support.operators import REASON, annals, killed, rows, serving, watched
from tests.support.servers import Serve
from tests.support.waiting import until

WRONG_RULE = Path(__file__).parents[1] / "support" / "wrong_rule"
THING = "org.example.thing"
DECIDING_ANEW = ("replay", "--into", "g2", "--mode", "recompute")
FOLDING = ("replay", "--into", "g3", "--mode", "fold")
REBUILD, TRANSACTIONS = "annals.projectors.rebuild", "annals.projectors.transaction"
#: Before there are tables, when partitions are taken, before and after a commit, and when all is done. Of the first and
#: the last the log is no part.
KILLS = {
    "no tables yet": (REBUILD, "create_generation", 1, "before"),
    "taken": ("annals.projectors.loop", "Loop.take", 1, "after"),
    "before a commit": (TRANSACTIONS, "Transactions._commit", 1, "before"),
    "after a commit": (TRANSACTIONS, "Transactions._commit", 1, "after"),
    "all done": (REBUILD, "Pace.rest", 1, "before"),
}
NOT_ON_THE_LOG = ("no tables yet", "all done")


@dataclass
class View:
    """What a client knows of its rooms, by /sync alone."""

    client: Client
    since: str | None = None
    #: the first token that it had
    began: str | None = None
    rooms: dict[str, dict[tuple[str, str], str]] = field(default_factory=dict)
    invited: set[str] = field(default_factory=set)
    limited: set[str] = field(default_factory=set)
    #: what the last answer had in `leave`
    left: list[str] = field(default_factory=list)

    def sync(self) -> None:
        """One /sync. A limited timeline makes the client begin the room anew, as clients do."""
        answer = self.client.sync(self.since, timeout=0)
        self.since = answer["next_batch"]
        self.began = self.began or self.since
        self.limited, sections = set(), answer.get("rooms", {})
        self.left = sorted(sections.get("leave", {}))
        for room_id in self.left:
            self.rooms.pop(room_id, None)
        self.invited = (self.invited - set(self.left) - set(sections.get("join", {}))) | set(sections.get("invite", {}))
        for room_id, room in sections.get("join", {}).items():
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
    """Who is where. `bad`: by damaged room, keys and the events that the wrong rule let in; `good`: the ones before.

    `door` is a room into which nobody came but by what was let through: `dan`, who joined, and `eve`, whom dan invited.
    """

    serve: Serve
    views: tuple[View, ...]
    dan: View
    eve: View
    sound: str
    door: str
    bad: dict[str, dict[tuple[str, str], str]]
    good: dict[str, dict[tuple[str, str], str]]

    @property
    def damaged(self) -> list[str]:
        return sorted(self.bad)

    def members(self, room_id: str, name: str) -> list[View]:
        """Who is in the room by what a generation believes."""
        inside = [view for view in self.views if view is not self.eve]
        return [view for view in inside if room_id != self.door or view is not self.dan or name == "g1"]


@pytest.fixture(scope="module")
def scene(log_backend: LogBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("wrong-rule")
    fault = folder / "fault"
    path = os.pathsep.join(filter(None, (str(WRONG_RULE), os.environ.get("PYTHONPATH"))))
    environment = {"PYTHONPATH": path, "TEST_WRONG_RULE_FILE": str(fault), **log_backend.environment()}
    with Serve(folder, **environment) as serve:
        serve.start()
        wait_ready(serve)
        ann, bob, cat, dan, eve = (register(serve.port, name) for name in ("ann", "bob", "cat", "dan", "eve"))
        one, two, sound = (ann.create_room(preset="public_chat", topic="right") for _ in range(3))
        for room_id in (one, two, sound):
            for client in (bob, cat, dan):
                client.room(room_id, "join")
                client.say(room_id, "hello")
        door = ann.create_room(preset="private_chat", invite=[bob.user_id, cat.user_id])
        for client in (bob, cat):
            client.room(door, "join")
        damaged = (one, two, door)
        good = {room_id: View(ann).truth(room_id) for room_id in damaged}
        fault.touch()
        bob.set_state(one, "m.room.topic", {"topic": "wrong"})
        bob.set_state(two, THING, {"topic": "wrong"}, "x")
        bob.set_state(door, "m.room.join_rules", {"join_rule": "public"})
        dan.room(door, "join")
        dan.say(door, "i am in")
        dan.room(door, "invite", user_id=eve.user_id)
        # What was said behind it names it as a prev event, and is not lost with it.
        for room_id in damaged:
            cat.say(room_id, "behind")
        fault.unlink()
        cat.say(sound, "later")
        bad = {room_id: dict(View(ann).truth(room_id).items() - good[room_id].items()) for room_id in damaged}
        views = tuple(View(client) for client in (ann, bob, cat, dan, eve))
        yield Scene(serve, views, views[3], views[4], sound, door, bad, good)


def test_the_wrong_rule_lets_everything_in(scene: Scene) -> None:
    member = "m.room.member"
    people = {(member, view.client.user_id) for view in (scene.dan, scene.eve)}
    assert scene.bad[scene.door].keys() == {("m.room.join_rules", ""), *people}
    assert [len(scene.bad[room_id]) for room_id in scene.bad if room_id != scene.door] == [1, 1]
    for view in scene.views:
        view.sync()
    for room_id, keys in scene.bad.items():
        for view in scene.members(room_id, "g1"):
            assert view.rooms[room_id].items() >= keys.items()
    assert (scene.eve.rooms, scene.eve.invited) == ({}, {scene.door})


@pytest.mark.parametrize(
    "where", [pytest.param(where, marks=pytest.mark.one_log if where in NOT_ON_THE_LOG else []) for where in KILLS]
)
def test_deciding_anew_is_killed(scene: Scene, where: str) -> None:
    killed(scene.serve, KILLS[where], *DECIDING_ANEW)


def test_deciding_anew_goes_on_and_sends_nothing(scene: Scene) -> None:
    assert watched(scene.serve, *DECIDING_ANEW, "--follow") == "watched [] []"


def test_the_diff_names_exactly_the_damaged_keys(scene: Scene) -> None:
    (line,) = annals(scene.serve, "diff", "--json", "g1", "g2", status=1)
    found = json.loads(line)
    assert [room["room_id"] for room in found["rooms"]] == scene.damaged
    for room in found["rooms"]:
        bad, good = scene.bad[room["room_id"]], scene.good[room["room_id"]]
        assert {(differs["type"], differs["state_key"]) for differs in room["keys"]} == bad.keys()
        for differs in room["keys"]:
            key = (differs["type"], differs["state_key"])
            assert (differs["left"], differs["right"]) == (bad[key], good.get(key))
        judged = {event["event_id"]: event for event in room["events"]}
        assert judged.keys() >= set(bad.values())
        # Beside the state, what dan said.
        assert len(judged) == len(bad) + (room["room_id"] == scene.door)
        for event in judged.values():
            assert event["left"] == {"verdict": "accepted", "rule": None, "reason": None}
            assert event["right"]["verdict"] == "rejected"
            assert event["right"]["rule"]
        reasons = {event["right"]["reason"] for event in judged.values()}
        assert "too_little_power" in reasons
        assert len(reasons) == 1 or room["room_id"] == scene.door
    assert found["wanted"] == []


@pytest.mark.one_log
def test_the_diff_for_people_has_the_same_lines(scene: Scene) -> None:
    lines = annals(scene.serve, "diff", "g1", "g2", status=1)
    assert [line for line in lines if not line.startswith(" ")] == scene.damaged
    for event_id in (event_id for keys in scene.bad.values() for event_id in keys.values()):
        assert any("rule" in line and event_id in line for line in lines)


@pytest.mark.parametrize(("_", "name"), [("there", "g2"), ("back", "g1"), ("again", "g2")])
def test_after_the_switch_every_client_has_the_room_as_the_server_has_it(scene: Scene, _: str, name: str) -> None:
    assert serving(scene.serve) != name
    assert annals(scene.serve, "switch", name, *REASON) == scene.damaged
    for room_id in scene.damaged:
        until(partial(_told, scene.serve, name, room_id), "the room has its fact")
    for view in scene.views:
        view.sync()
        inside = [room_id for room_id in (*scene.damaged, scene.sound) if view in scene.members(room_id, name)]
        assert view.rooms.keys() == set(inside)
        assert view.limited == set(inside) - {scene.sound}
        for room_id in inside:
            assert view.rooms[room_id] == view.truth(room_id)
            said = [event["content"].get("body") for event in view.client.history(room_id)]
            assert ("later" if room_id == scene.sound else "behind") in said
            for key, event_id in scene.bad.get(room_id, {}).items():
                assert view.rooms[room_id].get(key) == (event_id if name == "g1" else scene.good[room_id].get(key))
        assert view.left == ([scene.door] if view in (scene.dan, scene.eve) and name == "g2" else [])
        assert view.invited == ({scene.door} if view is scene.eve and name == "g1" else set())
        # And once only: the next token goes on by position.
        view.sync()
        assert (view.limited, view.left) == (set(), [])


def test_a_token_from_before_all_switches_is_told_what_holds_now(scene: Scene) -> None:
    assert serving(scene.serve) == "g2"
    for view in (scene.dan, scene.eve):
        late = replace(view, since=view.began, rooms={scene.door: {}}, invited={scene.door})
        late.sync()
        assert (late.left, late.invited) == ([scene.door], set())
        assert scene.door not in late.rooms
        status, _ = view.client.call("GET", f"/rooms/{quote(scene.door)}/state")
        assert status == 403


def test_the_room_goes_on_as_it_is_believed_now(scene: Scene) -> None:
    ann = scene.views[0].client
    for room_id, keys in scene.bad.items():
        key = min(keys)
        content = {"topic": "mended", "join_rule": "public"}
        event_id = ann.set_state(room_id, key[0], content, key[1])
        for view in scene.members(room_id, "g2"):
            view.sync()
            assert view.rooms[room_id][key] == event_id
            assert view.rooms[room_id] == view.truth(room_id)
    # The door is open now, for good.
    for view in (scene.dan, scene.eve):
        view.sync()
        view.client.room(scene.door, "join")
        view.sync()
        assert view.rooms[scene.door] == view.truth(scene.door)
        assert (view.left, view.invited) == ([], set())


@pytest.mark.parametrize("side", [pytest.param("before", marks=pytest.mark.one_log), "after"])
def test_a_fold_is_killed(scene: Scene, side: str) -> None:
    killed(scene.serve, (REBUILD, "Cursors.save", 1, side), *FOLDING)
    sql = "SELECT 1 FROM ops.cursors WHERE worker LIKE 'replay g3 from g2 %%'"
    assert bool(rows(scene.serve, sql)) == (side == "after")


def test_a_fold_that_was_killed_goes_on_from_its_cursor(scene: Scene) -> None:
    annals(scene.serve, *FOLDING)
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
