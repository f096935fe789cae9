"""Views in memory stay within their bound, however many rooms were met."""

from __future__ import annotations

import gc
import sys
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from annals.eventlog.embedded import EmbeddedLog
from annals.matrix.room_versions import RoomRules
from annals.projectors.rooms.views import ViewCache
from tests.support.projectors import append, connector, running
from tests.support.room_traffic import numbered_room
from tests.support.rooms import user

_CODE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, RoomRules)


def _bytes_held(root: Any) -> int:
    """What an object and all that it leads to take in memory, each once; code and the rules of room versions aside."""
    seen: set[int] = set()
    stack, total = [root], 0
    while stack:
        held = stack.pop()
        if id(held) not in seen and not isinstance(held, _CODE):
            seen.add(id(held))
            total += sys.getsizeof(held)
            stack.extend(gc.get_referents(held))
    return total


def test_a_thousand_rooms_stay_within_the_bound() -> None:
    view = numbered_room("12", 1).view
    bound = 50 * view.weight_bytes
    cache = ViewCache(bound)
    for number in range(1_000):
        cache.keep(number % 8, {f"!{number}": view})
        assert cache.weight_bytes <= bound
    kept = [number for number in range(1_000) if cache.get(f"!{number}") is not None]
    assert kept == list(range(1_000 - len(kept), 1_000)), "the ones met last"
    assert 40 <= len(kept) <= 60


def test_the_bound_is_one_of_real_bytes(log: EmbeddedLog, tables_url: str) -> None:
    """A projector that met 160 rooms: what its views take in memory is within the bound, as their weight is."""
    rooms = [numbered_room("12", number) for number in range(160)]
    for room in rooms[:16]:
        for number in range(12):
            room.send(user("alice"), "m.room.message", {"msgtype": "m.text", "body": f"{number} " + "x" * 600})
        for name in ("bob", "carol", "dave"):
            room.send(user(name), "m.room.member", {"membership": "join"}, user(name))
    bound = 5 << 18
    with running(log, connector(tables_url)) as loop:
        loop._views._bytes_max = bound
        for start in range(0, len(rooms), 20):
            append(log, [fact for room in rooms[start : start + 20] for fact in room.tables.facts.values()])
            loop.catch_up()
            gc.collect()
            held, weight = _bytes_held(loop._views), loop._views.weight_bytes
            assert held <= weight <= bound, "no less than the real bytes is promised"
            assert weight <= 3 * held, "and not much more"
        assert not loop.stopped
        assert loop._views.get(rooms[0].room_id) is None, "the bound was reached"
        assert loop._views.get(rooms[-1].room_id) is not None
