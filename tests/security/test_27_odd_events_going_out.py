"""Row 27: whatever our users put into events, the queue to every other server keeps moving.

(Device keys, of which the row speaks, are not taken yet.)
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.egress_world import membership, sending
from tests.support.sync_world import World

pytestmark = pytest.mark.anyio

ONE, TWO = "peer.one", "peer.two"
ODD: list[tuple[str, dict[str, Any]]] = [
    ("m.room.encrypted", {"device_keys": {"\0": [None, True, -1, 2**53 - 1]}}),
    ("\0", {}),
    ("m.room.redaction", {"redacts": {"a": 1}}),
    ("m.typing", {"edu_type": "m.presence", "pdus": [[]]}),
    ("x" * 255, {"body": "x" * 60_000}),
    ("m.room.message", {"body": {"": {"": [{}, [], "\u2028\ud7ff\uffff"]}}}),
]


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of the tests."""
    return "asyncio"


async def test_odd_events_stop_nothing(world: World) -> None:
    room = world.room()
    for user_id in (f"@bob:{ONE}", f"@carol:{TWO}"):
        world.feed(room, membership(room, user_id))
    async with sending(world) as out:
        said = [world.send(room, "alice", kind, content).event_id for kind, content in ODD]
        said.append(world.say(room, "alice").event_id)
        await out.until(lambda: out.peers.got(ONE)[-1:] == said[-1:] == out.peers.got(TWO)[-1:])
        await out.settled(world)
    assert out.peers.got(ONE) == out.peers.got(TWO) == said
