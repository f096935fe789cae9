"""Prometheus metrics of the HTTP side."""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

from prometheus_client import Histogram

_SECONDS = Histogram(
    "annals_http_request_seconds",
    "Time from a request's headers to its answer's last byte; long polls include their wait.",
    ["method", "route", "status"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
_METHODS = frozenset(["GET", "PUT", "POST", "DELETE"])


@lru_cache(maxsize=10_000)
def _series(method: str, route: str, status: int) -> Histogram:
    return _SECONDS.labels(method, route, str(status))


def observe(scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
    """Count one request under its route's template, never under its path: strangers choose those."""
    route = scope.get("annals.route")
    if route is None:
        # A router's 404 leaves no route behind.
        route = getattr(scope.get("route"), "path", "unknown")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    _series(method, route, status).observe(seconds)
