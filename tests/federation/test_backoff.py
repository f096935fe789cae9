"""The wait after failures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from annals.federation.backoff import DESTINATIONS, Backoff, BackoffRule, after_failure

RULE = BackoffRule(first_ms=100, factor=3, longest_ms=1000, jitter=0.1)


def test_waits_grow_to_the_longest() -> None:
    now_ms, backoff, waits = 5000, None, []
    for _ in range(5):
        backoff = after_failure(backoff, now_ms, 0.5, RULE)
        waits.append(backoff.retry_at_ms - now_ms)
        now_ms = backoff.retry_at_ms
    assert waits == [100, 300, 900, 1000, 1000]
    assert backoff is not None
    assert backoff.failing_for_ms(now_ms) == now_ms - 5000
    assert (backoff.is_over(now_ms - 1), backoff.is_over(now_ms)) == (False, True)


@given(st.floats(0, 1), st.integers(1, 40))
def test_chance_spreads_by_no_more_than_its_share(chance: float, failures: int) -> None:
    backoff: Backoff | None = None
    for _ in range(failures):
        backoff = after_failure(backoff, 0, chance)
    assert backoff is not None
    assert 0.79 * backoff.interval_ms <= backoff.retry_at_ms <= 1.21 * backoff.interval_ms
    assert backoff.interval_ms <= DESTINATIONS.longest_ms
