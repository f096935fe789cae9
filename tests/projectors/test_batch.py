"""A batch that ends in its middle: of rooms that were decided further, the views before that are kept."""

from __future__ import annotations

from collections.abc import Callable

from annals.projectors.rooms.batch import RoomBatch, Surroundings
from annals.projectors.rooms.fold import local_to
from annals.rooms.needs import Loaded, Needs
from annals.rooms.view import RoomView, learn, unknown_room
from annals.schemas.facts.rooms import PduReceived, RoomFact
from annals.schemas.records import values_of_decision
from tests.support.room_weaver import ALICE, Weaver, driver_of, plain_room
from tests.support.rooms import SERVER, received

NEVER, AT_ONCE = (lambda: False), (lambda: True)


def _no_fact(offset: int) -> RoomFact:
    raise AssertionError(f"nobody waits for the fact at {offset}")


def _said(weaver: Weaver, count: int) -> list[PduReceived]:
    return [received(weaver.add(("m.room.message", ALICE, None, {"n": str(n)}))) for n in range(count)]


class _Cut:
    """Offsets 100 to 105: cold, warm, cold, warm, warm, cold. The warm room can be decided at once."""

    def __init__(self) -> None:
        self.cold, self.warm = plain_room("11"), plain_room("12")
        self.cold_driver, self.warm_driver = driver_of(self.cold), driver_of(self.warm)
        self.cold_said, self.warm_said = _said(self.cold, 3), _said(self.warm, 3)
        (c0, c1, c2), (w0, w1, w2) = self.cold_said, self.warm_said
        self.facts: list[tuple[int, RoomFact]] = list(enumerate((c0, w0, c1, w1, w2, c2), start=100))
        around = Surroundings(0, 1, local_to(SERVER), values_of_decision, _no_fact)
        self.batch = RoomBatch(self.facts, self._view_of, around)

    def _view_of(self, room_id: str) -> RoomView:
        if room_id != self.warm.room_id:
            return unknown_room(room_id)
        new = {(room_id, fact.event_id): None for fact in self.warm_said}
        return learn(self.warm_driver.view, Loaded(events=new))

    def run(self, time_is_up: Callable[[], bool]) -> None:
        """With the tables' answers, until the batch ends."""
        while (needs := self.batch.advance(time_is_up)) is not None:
            tables = {driver.room_id: driver.tables for driver in (self.cold_driver, self.warm_driver)}
            self.batch.learn({room_id: of_room.load(_of(room_id, needs)) for room_id, of_room in tables.items()})


def _of(room_id: str, needs: Needs) -> Needs:
    return Needs(
        rooms=needs.rooms & {room_id},
        events=frozenset(name for name in needs.events if name[0] == room_id),
        states=frozenset(name for name in needs.states if name[0] == room_id),
        state_keys=frozenset(name for name in needs.state_keys if name[0] == room_id),
    )


def test_what_was_decided_beyond_the_end_is_not_in_the_views() -> None:
    cut = _Cut()
    cut.run(AT_ONCE)
    steps, views = cut.batch.finish()
    assert [step.offset for step in steps] == [100, 101]
    assert cut.batch.done.keys() > {100, 101}, "the warm room was decided further"
    view = views[cut.warm.room_id]
    assert [view.entry(fact.event_id) is not None for fact in cut.warm_said] == [True, False, False]


def test_a_batch_that_is_done_has_its_last_views() -> None:
    cut = _Cut()
    cut.run(NEVER)
    steps, views = cut.batch.finish()
    assert [step.offset for step in steps] == [offset for offset, _ in cut.facts]
    for fact in (*cut.cold_said, *cut.warm_said):
        assert views[fact.room_id].entry(fact.event_id) is not None
