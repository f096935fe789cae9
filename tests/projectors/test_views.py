"""Views in memory stay within their bound, however many rooms were met."""

from __future__ import annotations

from annals.projectors.rooms.views import ViewCache
from tests.support.room_traffic import numbered_room


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
