"""Resolving the states of 20 extremities of a room of 5,000 members: ours beside Synapse's `state.v2`, the same events.

`python -m benchmarks.resolution` prints medians of three, seconds of CPU, each side in a process of its own. Both are
given whole state maps, have all events in memory and walk the auth chains there; neither asks a database. Synapse's
time without that walk is shown too. The two must come to the same state.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annals.matrix.events import Event, StateKey, parse_event
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.state_resolution import resolve

CHECKOUT = Path(__file__).parents[1]
JUDGE = Path(__file__).parent / "resolution_peer.py"
PEER_PYTHON = CHECKOUT / ".cache" / "peer-venv" / "bin" / "python"
MEMBERS, EXTREMITIES, RUNS, VERSION = 5_000, 20, 3, "11"

State = dict[StateKey, str]


@dataclass(frozen=True, slots=True)
class Room:
    """The events of a room, and the states after its extremities."""

    events: dict[str, Event]
    states: list[State]


class Events:
    """The room's events, none rejected."""

    def __init__(self, events: Mapping[str, Event]) -> None:
        self._events = events

    def get(self, event_id: str) -> Event:
        return self._events[event_id]

    def rejected(self, event_id: str) -> bool:
        return False


class _Builder:
    def __init__(self, version: str) -> None:
        self.rules = ROOM_VERSIONS[version]
        self.events: dict[str, Event] = {}

    def add(self, key: StateKey, sender: str, content: dict[str, Any], auth: list[str], number: int) -> str:
        pdu = {
            "type": key[0],
            "state_key": key[1],
            "sender": sender,
            "room_id": "!r:a",
            "content": content,
            "auth_events": auth,
            "prev_events": auth[-1:],
            "depth": number + 1,
            "origin_server_ts": 1_000 + number,
            "hashes": {"sha256": "A" * 43},
            "signatures": {"a": {"ed25519:1": "A" * 86}},
        }
        event = parse_event(pdu, self.rules)
        self.events[event.event_id] = event
        return event.event_id


def room(members: int, extremities: int, version: str = VERSION) -> Room:
    """Each branch renamed its share of the members; every second one changed the power levels too."""
    made = _Builder(version)
    ann, create_key = "@ann:a", ("m.room.create", "")
    create = made.add(create_key, ann, {"room_version": version}, [], 0)
    joined = made.add(("m.room.member", ann), ann, {"membership": "join"}, [create], 1)
    powers = {"users": {ann: 100}}
    levels = made.add(("m.room.power_levels", ""), ann, powers, [create, joined], 2)
    rule = made.add(("m.room.join_rules", ""), ann, {"join_rule": "public"}, [create, joined, levels], 3)
    state: State = {made.events[event_id].key: event_id for event_id in (create, joined, levels, rule)}
    users = [f"@u{number}:a" for number in range(members)]
    for number, name in enumerate(users):
        key = "m.room.member", name
        state[key] = made.add(key, name, {"membership": "join"}, [create, levels, rule], 10 + number)
    states = []
    for branch in range(extremities):
        after = dict(state)
        if branch % 2:
            content = powers | {"events_default": 0, "invite": branch}
            after["m.room.power_levels", ""] = made.add(
                ("m.room.power_levels", ""), ann, content, [create, joined, levels], 20_000 + branch
            )
        here = [create, after["m.room.power_levels", ""], rule]
        for number in range(branch, members, extremities):
            key = "m.room.member", users[number]
            named = {"membership": "join", "displayname": f"in {branch}"}
            after[key] = made.add(key, users[number], named, [*here, state[key]], 30_000 + number)
        states.append(after)
    return Room(made.events, states)


def ours_s(made: Room, runs: int = RUNS) -> tuple[float, list[list[str]]]:
    """Median seconds of CPU, and the resolved state as a sorted list of (type, state key, event id)."""
    rules = next(iter(made.events.values())).rules
    took: list[float] = []
    resolved: State = {}
    for _ in range(runs):
        source = Events(made.events)
        started = time.process_time()
        resolved = resolve(rules, made.states, source)
        took.append(time.process_time() - started)
    return statistics.median(took), sorted([*key, event_id] for key, event_id in resolved.items())


def synapses_s(made: Room, version: str = VERSION, runs: int = RUNS) -> tuple[float, float, list[list[str]]]:
    """The same of Synapse's code, in its own environment; between them its time without the auth difference."""
    case = {
        "version": version,
        "runs": runs,
        "events": [event.pdu for event in made.events.values()],
        "states": [[[*key, event_id] for key, event_id in state.items()] for state in made.states],
    }
    answer = subprocess.run(
        [PEER_PYTHON, "-P", JUDGE], input=json.dumps(case), capture_output=True, text=True, check=True
    )
    told = json.loads(answer.stdout)
    return told["seconds"], told["seconds_without_difference"], told["resolved"]


def main() -> int:
    """Print the two medians and their ratio; 1 where the two do not come to the same state."""
    made = room(MEMBERS, EXTREMITIES)
    ours, our_state = ours_s(made)
    theirs, without, their_state = synapses_s(made)
    print(f"state resolution, {EXTREMITIES} extremities x {MEMBERS:,} members, version {VERSION}, median of {RUNS}")
    print(f"  Annals   {ours:8.3f} s\n  Synapse  {theirs:8.3f} s\n  ratio    1/{theirs / ours:.1f}")
    print(f"  without the auth difference Synapse takes {without:.3f} s: 1/{without / ours:.1f}")
    if our_state != their_state:
        print("  the resolved states differ")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
