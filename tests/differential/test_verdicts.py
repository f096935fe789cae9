"""Verdict for verdict, key for key: rooms that grow at random, judged by us and by Synapse's own code."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from annals.matrix.room_versions import ROOM_VERSIONS
from tests.differential.grown_room import GrownRoom
from tests.differential.peer import Synapse

# Making the peer's environment may come first.
pytestmark = pytest.mark.timeout(1_200)
EVENTS = 120
RULES_MIN = 20


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_synapse_says_the_same(version: str, synapse: Synapse, rng: Random, rooms: int) -> None:
    spoken, resolutions, grown = Counter[str](), 0, 0
    # A few rooms may be tame; by ten times as many they are not.
    while grown < rooms or (len(spoken) <= RULES_MIN and grown < 10 * rooms):
        grown += 1
        seed = rng.getrandbits(64)
        room = GrownRoom(Random(seed), version, EVENTS)
        differences = differences_of(room, synapse.ask(room.case()))
        assert not differences, f"room {seed} of version {version}:\n" + "\n".join(differences[:5])
        spoken += room.rules_that_spoke
        resolutions += sum(question[0] == "resolve" for question in room.questions)
    # The comparison means something: most rules spoke, and many events passed.
    assert spoken["allowed"] > 50 * grown, spoken
    assert len(spoken) > RULES_MIN, spoken
    assert resolutions > 20 * grown


def differences_of(room: GrownRoom, theirs: list[Any]) -> list[str]:
    """Where the answers differ, described.

    An event whose signatures or citations either of the two refuses is compared in sum only: they take some steps in
    another order, and Synapse falls over some malformed events on the way. Falling over is not accepting.
    """
    found: list[str] = []
    verdicts: dict[str, tuple[bool, bool]] = {}
    for question, our, their in zip(room.questions, room.answers, theirs, strict=True):
        if question[0] == "resolve":
            if our != their:
                found.append(f"resolve: ours {_without(our, their)}, Synapse {_without(their, our)}")
            continue
        accepted, event_id = their is True, question[1]
        before = verdicts.get(event_id, (True, True))
        verdicts[event_id] = before[0] and our, before[1] and accepted
        if question[0] == "allowed" and before == (True, True) and our != accepted:
            found.append(f"allowed: ours {our}, Synapse {their}: {room.events[event_id].pdu}")
    found += [
        f"received: ours {our}, Synapse {their}: {room.events[event_id].pdu}"
        for event_id, (our, their) in verdicts.items()
        if our != their
    ]
    return found


def _without(state: Any, other: Any) -> Any:
    if not isinstance(state, list) or not isinstance(other, list):
        return state
    return [entry for entry in state if entry not in other]
