"""Filling a generation from the log, offline: the live loop, driven to the log's end.

fold        re-apply the decisions of another generation: cures a fault of the tables or of a fold
recompute   decide anew: cures a fault of the room machine

Killed and started again, it goes on where its last commit left it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from annals.database.migrate import create_generation
from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log
from annals.projectors.loop import Loop, Settings
from annals.projectors.positions.read import projected_ends
from annals.schemas.topics import decisions_topic

Mode = Literal["fold", "recompute"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Records that are in the tables, of those that are on the log."""

    done: int
    total: int


class ReplayStopped(Exception):
    """A partition met a record that it cannot read, so that the generation is not whole."""


def replay(
    log: Log,
    url: str,
    generation: str,
    mode: Mode,
    server_name: str,
    *,
    source_generation: str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Make `generation` (its schema too) hold all that is on the log now. Raises ReplayStopped.

    `source_generation` is whose decisions a fold applies; a recompute has none.
    """
    if (mode == "fold") != (source_generation is not None):
        raise ValueError("a fold needs the generation whose decisions it applies, a recompute decides anew")
    if source_generation == generation:
        raise ValueError("a generation is rebuilt from its own decisions by starting it")
    create_generation(url, generation)
    log.ensure_topics([decisions_topic(generation)])
    total = sum(projected_ends(log).values())
    loop = Loop(
        log,
        lambda: WriteConnection(url, generation, purpose="replay"),
        Settings(generation, server_name, f"replay-{secrets.token_hex(6)}", alone=True),
    )

    def report() -> None:
        on_progress(Progress(sum(loop.positions.values()), total))

    try:
        loop.take()
        if source_generation is not None:
            loop.copy_from(source_generation, report)
        while loop.step(0.0):
            report()
        loop.catch_up()
        if loop.stopped:
            raise ReplayStopped("; ".join(loop.stopped.values()))
        report()
        return Progress(sum(loop.positions.values()), total)
    finally:
        loop.close()
