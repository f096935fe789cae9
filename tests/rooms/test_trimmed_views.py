from __future__ import annotations

from annals.rooms.heads import Foreseen, Intent, fact_of, foresee
from annals.rooms.view import EVENTS_KEPT, trim
from tests.support.room_traffic import numbered_room
from tests.support.rooms import envelope, user


def test_what_those_who_spoke_of_late_need_is_kept() -> None:
    driver = numbered_room("12", 1)
    names = [user(f"member{number}") for number in range(20)]
    for name in names:
        driver.send(name, "m.room.member", {"membership": "join"}, name)
    for number in range(2 * EVENTS_KEPT):
        driver.send(names[number % len(names)], "m.room.message", {"body": str(number)})
    view = trim(driver.view)
    assert len(view.events) <= EVENTS_KEPT
    rules = view.known_header().rules
    assert rules
    for name in names:
        # No Lacking: the sender's own member event is still here, far behind the last messages.
        event = driver.build(Intent(name, "m.room.message", {"body": "more"}), rules)
        view = view.__class__(view.room_id, view.header, view.events.set(event.event_id, None), view.states)
        assert isinstance(foresee(view, fact_of(event, envelope()), 1 << 40), Foreseen)
