"""What Prometheus is told of handshakes."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ENDED = Counter("annals_handshakes", "Handshakes that ended here.", ("kind", "outcome"))
ATTEMPTS = Counter("annals_handshake_attempts", "Attempts with one server each.", ("kind", "outcome"))
EVENTS = Counter("annals_handshake_events", "Events of rooms that were joined, logged.")
UNDER_WAY = Gauge("annals_handshakes_under_way", "Handshakes at work.", multiprocess_mode="livesum")
SECONDS = Histogram(
    "annals_handshake_seconds",
    "From its start here to its end.",
    ("kind",),
    buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 300),
)
