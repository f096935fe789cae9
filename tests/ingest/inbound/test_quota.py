"""The quota of a server in quarantine: so many inputs and bytes an hour, whatever others send."""

from __future__ import annotations

from dataclasses import dataclass

from annals.ingest.inbound.quota import BYTES_MAX, INPUTS_MAX, WINDOW_MS, Quota


@dataclass
class Clock:
    """Time that a test sets."""

    now_ms: int = 1_000

    def now(self) -> int:
        """Milliseconds."""
        return self.now_ms


def taken(quota: Quota, origin: str, size_bytes: int, times: int) -> int:
    """How many of so many inputs are kept."""
    return sum(quota.take(origin, size_bytes) for _ in range(times))


def test_a_flood_of_inputs_is_cut_off_until_the_hour_is_over() -> None:
    clock = Clock()
    quota = Quota(clock.now)
    assert taken(quota, "evil", 1, INPUTS_MAX * 3) == INPUTS_MAX
    assert taken(quota, "good", 1, 10) == 10
    clock.now_ms += WINDOW_MS - 1
    assert taken(quota, "evil", 1, 1) == 0
    clock.now_ms += 1
    assert taken(quota, "evil", 1, 1) == 1


def test_a_flood_of_bytes_is_cut_off_and_what_is_small_still_fits() -> None:
    quota = Quota(Clock().now)
    assert taken(quota, "evil", 60_000, 500) == BYTES_MAX // 60_000
    assert taken(quota, "evil", BYTES_MAX % 60_000, 1) == 1
    assert taken(quota, "evil", 1, 1) == 0


def test_a_clock_that_goes_back_locks_nobody_out() -> None:
    clock = Clock(10 * WINDOW_MS)
    quota = Quota(clock.now)
    taken(quota, "a", 1, INPUTS_MAX)
    clock.now_ms = 0
    assert taken(quota, "a", 1, 1) == 1
