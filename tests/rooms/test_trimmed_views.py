from __future__ import annotations

from annals.rooms.heads import Foreseen, Intent, build_on, fact_of, foresee
from annals.rooms.needs import Loaded
from annals.rooms.trimming import EVENTS_KEPT
from annals.rooms.view import learn
from tests.support.room_traffic import numbered_room
from tests.support.rooms import SIGNER, Driver, envelope, user

NAMES = [user(f"member{number}") for number in range(20)]


def _just_trimmed() -> Driver:
    """A room in which twenty talk, at the moment at which its view has become smaller."""
    driver = numbered_room("12", 1)
    for name in NAMES:
        driver.send(name, "m.room.member", {"membership": "join"}, name)
    for number in range(2 * EVENTS_KEPT):
        events = len(driver.view.events)
        driver.send(NAMES[number % len(NAMES)], "m.room.message", {"body": str(number)})
        if len(driver.view.events) < events:
            return driver
    raise AssertionError("the view was never trimmed")


def test_who_spoke_of_late_speaks_on_without_a_look_at_the_tables() -> None:
    view = _just_trimmed().view
    rules = view.known_header().rules
    assert rules
    for name in NAMES:
        event = build_on(view, Intent(name, "m.room.message", {"body": "more"}), rules, SIGNER, 1)
        known = learn(view, Loaded(events={(view.room_id, event.event_id): None}))
        assert isinstance(foresee(known, fact_of(event, envelope()), 1 << 40), Foreseen)
