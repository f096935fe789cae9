"""What came of what other servers pushed, counted."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import Counter

_RECEIVED = Counter(
    "annals_federation_received",
    "PDUs and EDUs that other servers pushed, by kind and by what came of them.",
    ["kind", "outcome"],
)


@lru_cache(maxsize=200)
def _series(kind: str, outcome: str) -> Counter:
    return _RECEIVED.labels(kind, outcome)


def count(kind: str, outcome: str, number: int = 1) -> None:
    """Both words are ours, never a stranger's."""
    _series(kind, outcome).inc(number)
