"""Filling a generation from the log, offline: the live loop, driven to the log's end.

fold        re-apply the decisions of another generation: cures a fault of the tables or of a fold
recompute   decide anew: cures a fault of the room machine. What operators left out stays left out

Killed and started again, it goes on where its last commit left it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from annals.database.migrate import create_generation
from annals.database.ops import cursor, save_cursor
from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log
from annals.projectors.errors import ReplayStopped
from annals.projectors.interpreter import set_for_replay
from annals.projectors.left_out import left_out
from annals.projectors.loop import Loop, Settings
from annals.projectors.positions.read import projected_ends
from annals.projectors.refolding import Copied
from annals.schemas.topics import decisions_topic

Mode = Literal["fold", "recompute"]

#: A batch of a recompute. Nobody waits for it, and look-ups and writes cost a tenth in batches of this size.
RECORDS_MAX, WORK_S_MAX = 5_000, 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Records that are in the tables, of those that are on the log."""

    done: int
    total: int


class Pace:
    """Rests after work, so that it takes no more than its share of the time."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._since_s = time.monotonic()

    def rest(self) -> None:
        """Sleep in proportion to the time since the last rest."""
        if self._share < 1.0:
            worked_s = time.monotonic() - self._since_s
            time.sleep(worked_s * (1.0 / self._share - 1.0))
        self._since_s = time.monotonic()


class Cursors:
    """How far a fold has copied another generation's decisions, in `ops`. See CopyCursors."""

    def __init__(self, connect: Callable[[], WriteConnection], generation: str, source: str) -> None:
        self._connection = connect()
        self._worker = f"replay {generation} from {source}"

    def load(self, partition: int) -> Copied | None:
        """See CopyCursors."""
        packed = cursor(self._connection, self._name(partition))
        return None if packed is None else Copied(*map(int, packed.split()))

    def save(self, partition: int, copied: Copied) -> None:
        """See CopyCursors. Not on the path of the tables' transaction: what is lost is looked through again."""
        packed = f"{copied.next_offset} {copied.source_offset} {copied.marked_epoch}"
        save_cursor(self._connection, self._name(partition), packed)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _name(self, partition: int) -> str:
        return f"{self._worker} {partition}"


@set_for_replay()
def replay(
    log: Log,
    url: str,
    generation: str,
    mode: Mode,
    server_name: str,
    *,
    source_generation: str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    cpu_share: float = 1.0,
) -> Progress:
    """Make `generation` (its schema too) hold all that is on the log now. Raises ReplayStopped.

    `cpu_share` (0 to 1) is how much of the time it works: after each batch it rests. Memory is bounded by the batch and
    by the cache of views, as in a server.

    `source_generation` is whose decisions a fold applies; a recompute has none.
    """
    if (mode == "fold") != (source_generation is not None):
        raise ValueError("a fold needs the generation whose decisions it applies, a recompute decides anew")
    if source_generation == generation:
        raise ValueError("a generation is rebuilt from its own decisions by starting it")
    # A Kafka producer is ready half a second after the first append, which is what the tables take to be made.
    log.append([])
    create_generation(url, generation)
    log.ensure_topics([decisions_topic(generation)])
    total = sum(projected_ends(log).values())

    def connect() -> WriteConnection:
        return WriteConnection(url, generation, purpose="replay")

    loop = Loop(
        log,
        connect,
        Settings(
            generation,
            server_name,
            f"replay-{secrets.token_hex(6)}",
            alone=True,
            # Who asks for a share of the time has one thing done at a time.
            ahead=cpu_share >= 1.0,
            records_max=RECORDS_MAX,
            work_s_max=WORK_S_MAX,
            left_out=left_out(log) if mode == "recompute" else {},
        ),
    )

    pace = Pace(cpu_share)

    def report() -> None:
        pace.rest()
        on_progress(Progress(sum(loop.positions.values()), total))

    try:
        loop.take()
        if source_generation is not None:
            with closing(Cursors(connect, generation, source_generation)) as cursors:
                loop.copy_from(source_generation, cursors, report)
        while loop.step(0.0):
            report()
        loop.catch_up()
        if loop.stopped:
            raise ReplayStopped("; ".join(loop.stopped.values()))
        report()
        return Progress(sum(loop.positions.values()), total)
    finally:
        loop.close()
