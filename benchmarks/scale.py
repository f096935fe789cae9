"""What states and auth chains cost in large rooms: `python -m benchmarks.scale` (with `--large` 100,000 members too).

Real facts go through a real projector into PostgreSQL. Then a message, and events that merge heads whose states differ,
are decided by a machine that knows nothing of the room: shown is what it reads. Prints a table, and draws
docs/state-at-scale.svg with `--draw`. Long histories of power levels: benchmarks/levels.py.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Append, Log
from annals.eventlog.embedded import open_embedded
from annals.eventlog.partition import partition_of
from annals.projectors.loop import Loop, Settings
from annals.projectors.rebuild import replay
from annals.projectors.rooms.load import load
from annals.rooms.machine import decide
from annals.rooms.needs import Needs
from annals.rooms.view import learn, unknown_room
from annals.schemas.facts.rooms import PduFact
from annals.schemas.records import record_of
from annals.schemas.topics import TOPICS, decisions_topic
from annals.server.embedded_postgres import EmbeddedPostgres
from benchmarks.replay_log import OURS, _Room
from benchmarks.scale_plot import draw

CHECKOUT = Path(__file__).resolve().parent.parent
FOLDER = CHECKOUT / ".cache" / "bench" / "scale"
PLOT = CHECKOUT / "docs" / "state-at-scale.svg"
SIZES, LARGE = (100, 10_000), 100_000
HEADS = (1, 5, 20)
CHANGES_A_BRANCH, RUNS = 5, 3
LEVELS = "m.room.power_levels"
_TABLES = ("states", "state_deltas", "auth_chains", "auth_chain_links")


@dataclass(frozen=True, slots=True)
class Read:
    """What deciding one event of a cold room read. `index_rows`: those of the chain cover among the rows."""

    rounds: int
    queries: int
    rows: int
    index_rows: int
    ms: float


class Counting:
    """A connection that counts what it is asked."""

    def __init__(self, connection: WriteConnection) -> None:
        self._connection = connection
        self.queries = self.row_count = self.index_rows = 0

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        found = self._connection.rows(sql, params)
        # A row that is a page of chains counts as these.
        count = sum(len(row[-1]) if isinstance(row[-1], list) and "auth_chain_links" in sql else 1 for row in found)
        self.queries += 1
        self.row_count += count
        if "auth_chain_links" in sql:
            self.index_rows += count
        return found


class GrownRoom:
    """One room of `members` in a log and a database of its own. `levels`: how often its power levels were changed."""

    def __init__(self, postgres: EmbeddedPostgres, members: int, levels: int = 0) -> None:
        name = f"scale_{members}_{levels}"
        connection = psycopg2.connect(postgres.url())
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        connection.close()
        self.members = members
        self.url = postgres.url(name)
        self.log: Log = open_embedded(FOLDER / name)
        self.log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
        self.room = _Room(random.Random(members), members)
        self._log([*self.room.begin(), *(self.room.join(f"@member{n}:{OURS}") for n in range(members))])
        owner = self.room.members[0]
        self.before_levels = list(self.room.heads), self.room.depth, dict(self.room.state)
        self._log([self.room.grow(LEVELS, owner, {"state_default": 0, "ban": n % 90}, "") for n in range(levels)])
        replay(self.log, self.url, "g1", "recompute", OURS)
        # As autovacuum does after a while.
        tables = WriteConnection(self.url, "g1")
        tables.execute("ANALYZE")
        tables.close()
        self.loop = Loop(self.log, lambda: WriteConnection(self.url, "g1"), Settings("g1", OURS, "scale"))
        self.loop.take()

    def append(self, facts: Sequence[PduFact]) -> None:
        """Into the log, and decided."""
        self._log(facts)
        self.loop.catch_up()
        if self.loop.stopped:
            raise RuntimeError(f"the projector stopped: {self.loop.stopped}")

    def _log(self, facts: Sequence[PduFact]) -> None:
        count = self.log.partitions("rooms")
        for start in range(0, len(facts), 2_000):
            records = [record_of(fact) for fact in facts[start : start + 2_000]]
            self.log.append(
                [Append(r.topic, partition_of(r.partition_key, count), r.record_key, r.value) for r in records]
            ).result()

    def branches(self, count: int) -> list[str]:
        """So many heads, whose states differ; the room's heads afterwards."""
        room, heads, depth, state = self.room, self.room.heads, self.room.depth, dict(self.room.state)
        made: list[str] = []
        for branch in range(count):
            # Depths that no other branch has: idempotency keys are made of them.
            room.heads, room.depth, room.state = heads, depth + 50 * branch, dict(state)
            facts = []
            if branch % 2:
                facts.append(room.grow(LEVELS, room.members[0], {"state_default": 0, "ban": branch}, ""))
            for number in range(CHANGES_A_BRANCH):
                facts.append(room.join(f"@member{(branch * 7 + number) % self.members}:{OURS}"))
            facts.append(room.grow("m.room.topic", f"@member{branch}:{OURS}", {"topic": f"{branch}"}, ""))
            self.append(facts)
            made += room.heads
        room.heads, room.state = made, state
        return made

    def read(self, fact: PduFact) -> Read:
        """Decide the fact in a view that has nothing of the room; median time of some runs."""
        took: list[float] = []
        for _ in range(RUNS):
            connection = WriteConnection(self.url, "g1")
            counting, view, rounds = Counting(connection), unknown_room(fact.room_id), 0
            connection.rows("SELECT 1")
            started = time.monotonic()
            while isinstance(outcome := decide(view, fact, 1 << 40, 1), Needs):
                found = load(counting, outcome)
                view = learn(view, found[fact.room_id])
                rounds += 1
            took.append((time.monotonic() - started) * 1000)
            connection.close()
        return Read(rounds, counting.queries, counting.row_count, counting.index_rows, statistics.median(took))

    def change_cost(self) -> dict[str, tuple[float, float]]:
        """By table: rows and bytes a state change, as they are stored, without indexes."""
        connection = WriteConnection(self.url, "g1")
        (changes,) = connection.rows("SELECT count(*) FROM states")[0]
        costs = {}
        for table in _TABLES:
            rows, size = connection.rows(f"SELECT count(*), coalesce(sum(pg_column_size(t.*)), 0) FROM {table} t")[0]
            costs[table] = (rows / changes, int(size) / changes)
        connection.close()
        return costs

    def close(self) -> None:
        self.loop.close()
        self.log.close()


def measure(postgres: EmbeddedPostgres, members: int) -> tuple[dict[str, tuple[float, float]], dict[int, Read]]:
    """The cost of a change, and by number of merged heads what a cold room's event reads."""
    started = time.monotonic()
    grown = GrownRoom(postgres, members)
    print(f"{members:,} members: made in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    costs, reads = grown.change_cost(), {}
    for heads in HEADS:
        if heads > 1:
            # One head stays beside those that are merged: else the state before the event is the current one.
            made = grown.branches(heads + 1)
            grown.room.heads = made[:heads]
        merge = grown.room.grow("m.room.message", grown.room.members[0], {"body": "x"})
        reads[heads] = grown.read(merge)
        grown.append([merge])
        if heads > 1:
            grown.room.heads = [merge.event_id, made[-1]]
            grown.append([grown.room.grow("m.room.message", grown.room.members[0], {"body": "all"})])
    grown.close()
    return costs, reads


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.scale")
    parser.add_argument("--large", action="store_true", help=f"a room of {LARGE:,} members too (some minutes)")
    parser.add_argument("--draw", action="store_true", help=f"write {PLOT.relative_to(CHECKOUT)}")
    chosen = parser.parse_args(arguments)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    postgres = EmbeddedPostgres(FOLDER / "postgres")
    postgres.start()
    try:
        measured = {size: measure(postgres, size) for size in (*SIZES, *([LARGE] if chosen.large else []))}
    finally:
        postgres.stop()
        shutil.rmtree(FOLDER, ignore_errors=True)
    print(as_text(measured, "members"))
    if chosen.draw:
        lines = {
            f"{heads} head{'s' if heads > 1 else ''}": [(size, of[1][heads].rows) for size, of in measured.items()]
            for heads in HEADS
        }
        PLOT.write_text(draw("rows that an event of a cold room reads", "members", lines))
    return 0


def as_text(measured: dict[int, tuple[dict[str, tuple[float, float]], dict[int, Read]]], of: str) -> str:
    """Two tables."""
    said = ["a state change        " + "".join(f"{name:>22}" for name in _TABLES)]
    for size, (costs, _) in measured.items():
        cells = "".join(f"{rows:>10.2f} rows{size_b:>5.0f} B" for rows, size_b in costs.values())
        said.append(f"{size:>9,} {of}     {cells}")
    said.append("\nan event, cold room      heads   rounds  queries     rows  of the index       ms")
    for size, (_, reads) in measured.items():
        for heads, read in reads.items():
            counts = f"{read.rounds:>9}{read.queries:>9}{read.rows:>9}{read.index_rows:>14}{read.ms:>9.1f}"
            said.append(f"{size:>9,} {of}{heads:>13}{counts}")
    return "\n".join(said)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
