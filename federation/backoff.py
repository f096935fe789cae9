"""How long a server that failed is left alone: exponential, as a pure function. Who asks keeps the value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackoffRule:
    """The first wait, what it grows by, and the longest wait."""

    first_ms: int
    factor: int
    longest_ms: int
    jitter: float = 0.2
    """Share of a wait by which chance makes it shorter or longer, so that peers do not come back all at once."""


DESTINATIONS = BackoffRule(first_ms=10_000, factor=2, longest_ms=24 * 3600 * 1000)
"""For transactions: an hour is passed after nine failures, a day after fourteen."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Since when a server fails, and until when it is not asked."""

    failing_since_ms: int
    interval_ms: int
    """The last wait, before jitter."""
    retry_at_ms: int

    def is_over(self, now_ms: int) -> bool:
        """Whether the server may be asked again."""
        return now_ms >= self.retry_at_ms

    def failing_for_ms(self, now_ms: int) -> int:
        """How long it has failed; catch-up begins after an hour."""
        return max(0, now_ms - self.failing_since_ms)


def after_failure(previous: Backoff | None, now_ms: int, chance: float, rule: BackoffRule = DESTINATIONS) -> Backoff:
    """The wait after one more failure. `chance` is a random number from 0 to 1. A success has no wait: None."""
    if previous is None:
        interval_ms, since_ms = rule.first_ms, now_ms
    else:
        interval_ms, since_ms = min(previous.interval_ms * rule.factor, rule.longest_ms), previous.failing_since_ms
    spread = 1 + rule.jitter * (2 * chance - 1)
    return Backoff(since_ms, interval_ms, now_ms + int(interval_ms * spread))
