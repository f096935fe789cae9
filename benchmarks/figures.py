"""Figures of several runs become one table: medians, and how many times better than Synapse."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PEER = "Synapse"


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table. `digits` after the point; `more_is_better` turns the ratio round."""

    name: str
    title: str
    unit: str
    digits: int = 1
    more_is_better: bool = False


FIGURES = (
    Figure("one_user_p50_ms", "one user sends, p50", "ms"),
    Figure("one_user_p99_ms", "one user sends, p99", "ms"),
    Figure("one_user_cpu_ms", "one user, CPU an event", "ms", 2),
    Figure("many_users_events_s", "20 users send to one room", "events/s", 0, more_is_better=True),
    Figure("many_users_cpu_ms", "20 users, CPU an event", "ms", 2),
    Figure("delivery_p50_ms", "delivery to a waiting long poll, p50", "ms"),
    Figure("delivery_p99_ms", "delivery to a waiting long poll, p99", "ms"),
    Figure("initial_sync_p50_ms", "initial sync of 50 rooms, p50", "ms"),
    Figure("rest_pss_mib", "at rest, memory (PSS)", "MiB", 0),
    Figure("rest_rss_mib", "at rest, memory (sum of RSS)", "MiB", 0),
    Figure("worked_pss_mib", "at rest after the work, memory (PSS)", "MiB", 0),
    Figure("rest_cpu_percent", "at rest, CPU of one core", "%", 2),
)


def percentile(values: Sequence[float], rank: int) -> float:
    """The value below which `rank` percent lie (the nearest one that was measured)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * rank // 100)]


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure over the runs that have it."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: statistics.median(run[name] for run in runs if name in run) for name in names}


def times_better(figure: Figure, ours: float, theirs: float) -> float | None:
    """How many times better than theirs; None where one of the two is nothing."""
    if not ours or not theirs:
        return None
    return ours / theirs if figure.more_is_better else theirs / ours


def table(measured: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Rows of cells, the heading first; `measured` has the medians by peer."""
    peers = list(measured)
    compared = [peer for peer in peers if peer != PEER] if PEER in peers else []
    rows = [["work", "unit", *peers, *(f"{peer} is better by" for peer in compared)]]
    for figure in FIGURES:
        values = {peer: measured[peer][figure.name] for peer in peers if figure.name in measured[peer]}
        if values:
            cells = [f"{values[peer]:,.{figure.digits}f}" if peer in values else "" for peer in peers]
            ratios = [times_better(figure, values.get(peer, 0.0), values.get(PEER, 0.0)) for peer in compared]
            rows.append([figure.title, figure.unit, *cells, *(f"{ratio:.1f}x" if ratio else "" for ratio in ratios)])
    return rows


def parts_table(parts_ms: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[list[str]]:
    """CPU of an event by part: `parts_ms` has, by peer and work, the milliseconds of each part."""
    rows = [["CPU an event, ms", "work", "part", "ms"]]
    for peer, works in parts_ms.items():
        for work, parts in works.items():
            for part, cost_ms in sorted(parts.items(), key=lambda item: -item[1]):
                rows.append([peer, work, part, f"{cost_ms:.3f}"])
    return rows


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Columns in line; the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(cells))
        for cells in (zip(row, widths, strict=True) for row in rows)
    )


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    heading, *others = rows
    rule = ["---", *("---:" for _ in heading[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [heading, rule, *others])
