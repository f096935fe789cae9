"""What Prometheus is told of the projectors."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("annals_projector_records", "Records folded.", ("group",))
BATCH_RECORDS = Histogram(
    "annals_projector_batch_records", "Records in a transaction.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
BATCH_SECONDS = Histogram(
    "annals_projector_batch_seconds",
    "From the records to the commit.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
# Each process speaks of its own partitions: the sum is what there is.
LAG = Gauge(
    "annals_projector_lag",
    "Records that are on the log and not in the tables.",
    ("group", "partition"),
    multiprocess_mode="livesum",
)
STOPPED = Gauge(
    "annals_projector_stopped",
    "1 where a partition stands at a record that nobody reads.",
    ("group", "partition"),
    multiprocess_mode="livesum",
)
HALTED_ROOMS = Gauge("annals_rooms_halted", "Rooms that stand still.", multiprocess_mode="livesum")
GIVEN_UP = Counter("annals_projector_given_up", "Partitions given up, to be taken again.", ("group",))
VIEWS_BYTES = Gauge("annals_projector_views_bytes", "Weight of the views of rooms in memory.")
