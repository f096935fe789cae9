"""Rate limits: token buckets by kind of request and by who asks, kept by each process for itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from annals.api.errors import ApiError

BUCKETS_MAX = 100_000
WHO_LENGTH_MAX = 255


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` requests at once, and `per_second` more for every second that passes."""

    per_second: float
    burst: int


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_ms: int


@dataclass(slots=True)
class Limits:
    """`rates` by kind (login, registration, message, …); a kind without a rate is not limited."""

    clock: Callable[[], int]
    rates: Mapping[str, Rate] = field(default_factory=dict)
    _buckets: OrderedDict[tuple[str, str], _Bucket] = field(default_factory=OrderedDict)

    def take(self, kind: str, who: str) -> None:
        """Count one request of `who` (a user id or an address); 429 M_LIMIT_EXCEEDED where it is one too many."""
        rate = self.rates.get(kind)
        if rate is None:
            return
        now_ms = self.clock()
        # A user name that was only tried may be as long as a body: it must not be kept whole.
        bucket = self._bucket((kind, who[:WHO_LENGTH_MAX]), rate, now_ms)
        bucket.tokens = min(float(rate.burst), bucket.tokens + (now_ms - bucket.at_ms) / 1000 * rate.per_second)
        bucket.at_ms = now_ms
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return
        wait_ms = int((1 - bucket.tokens) / rate.per_second * 1000) + 1
        raise ApiError(
            429,
            "M_LIMIT_EXCEEDED",
            "Too many requests",
            {"retry_after_ms": wait_ms},
            # "The Retry-After header is in seconds": rounded up, or clients would come too early.
            retry_after_s=-(-wait_ms // 1000),
        )

    def _bucket(self, key: tuple[str, str], rate: Rate, now_ms: int) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(float(rate.burst), now_ms)
            while len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket


def address_of(client: tuple[str, int] | None) -> str:
    """The peer's address, for limits by address; one bucket for all who have none."""
    return client[0] if client is not None else "unknown"
