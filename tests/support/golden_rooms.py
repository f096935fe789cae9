"""The golden corpus: rooms as they were logged once, and a hash of what the machine decided about them.

Rewritten by hand, after `DECIDE_VERSION` (rooms/step.py) was raised:

    python -m tests.support.golden_rooms
"""

from __future__ import annotations

import gzip
import hashlib
import json
from base64 import b64decode, b64encode
from pathlib import Path
from random import Random
from typing import Any

from annals.rooms.step import DECIDE_VERSION
from annals.schemas.codec import decode, encode
from annals.schemas.facts.rooms import EventRefused, GapAbandoned, RoomFact, RoomForgotten, RoomResumed
from tests.support.room_weaver import BOB, VERSIONS, woven
from tests.support.rooms import Driver, created, envelope, fetched, received
from tests.support.rooms_elsewhere import story

FOLDER = Path(__file__).parent.parent / "rooms" / "golden"
HOW = "python -m tests.support.golden_rooms"
_ROOMS_PER_VERSION = 3
_ROOMS_ELSEWHERE = 3
_LENGTH = 40


def facts_of(version: str, seed: int) -> tuple[str, list[RoomFact]]:
    """A woven room as facts of every kind."""
    weaver, rng = woven(seed, version, _LENGTH), Random(seed)
    room_id = weaver.room_id
    facts: list[RoomFact] = []
    for number, event in enumerate(weaver.events):
        ways: list[RoomFact] = [received(event)] * 6
        ways += [created(event, f"txn{number // 2}"), fetched(event, "backfill"), fetched(event, "state")]
        facts.append(rng.choice(ways))
    for _ in range(_LENGTH // 4):
        facts.insert(rng.randrange(6, len(facts)), facts.pop(rng.randrange(6, len(facts))))
    for event in rng.sample(weaver.events[6:], 4):
        facts.insert(rng.randrange(20, len(facts)), received(event))
        facts.insert(rng.randrange(20, len(facts)), GapAbandoned(envelope(), room_id, (event.event_id,), "nobody"))
        facts.insert(rng.randrange(20, len(facts)), EventRefused(envelope(), room_id, event.event_id, None, None, "no"))
    facts.append(RoomForgotten(envelope(), room_id, BOB))
    facts.append(RoomResumed(envelope(), room_id, "@admin:test", "to see", ()))
    facts.extend(map(received, weaver.events))
    return room_id, facts


def digest(room_id: str, facts: list[RoomFact]) -> str:
    """SHA-256 over all decisions of a room, as they are logged."""
    driver = Driver(room_id)
    driver.feed(*facts)
    decisions = hashlib.sha256()
    for step in driver.encoded():
        for record in step:
            decisions.update(len(record).to_bytes(4, "big") + record)
    return decisions.hexdigest()


def stored(version: str) -> dict[str, Any]:
    """The corpus of one room version: `decide_version`, and `rooms` with `room_id`, `facts`, `digest`."""
    corpus: dict[str, Any] = json.loads(gzip.decompress((FOLDER / f"v{version}.json.gz").read_bytes()))
    for room in corpus["rooms"]:
        room["facts"] = [decode(b64decode(fact)) for fact in room["facts"]]
    return corpus


def write(version: str) -> None:
    """Write the corpus of one room version anew: the rooms that it has, and new ones where it has fewer."""
    path = FOLDER / f"v{version}.json.gz"
    rooms = [(room["room_id"], room["facts"]) for room in stored(version)["rooms"]] if path.exists() else []
    makers = [facts_of] * _ROOMS_PER_VERSION + [story] * _ROOMS_ELSEWHERE
    rooms += [make(version, seed) for seed, make in enumerate(makers) if seed >= len(rooms)]
    corpus = {
        "decide_version": DECIDE_VERSION,
        "rooms": [
            {
                "room_id": room_id,
                "facts": [b64encode(encode(fact)).decode() for fact in facts],
                "digest": digest(room_id, facts),
            }
            for room_id, facts in rooms
        ],
    }
    path.write_bytes(gzip.compress(json.dumps(corpus).encode(), mtime=0))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for _version in VERSIONS:
        write(_version)
