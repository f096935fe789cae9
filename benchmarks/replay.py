"""How fast a generation is filled from the log: `python -m benchmarks.replay`, or `make bench ARGS=--replay`.

One projector process over an embedded log of 100,000 PDUs in 50 rooms (annals benchmarks.replay_log), into an empty
generation; the embedded PostgreSQL as it is served with. Shown are PDUs a second, CPU of the process and of PostgreSQL
for each PDU, and the memory of the process; medians of three runs. The log is made once and kept; each run works on a
copy of it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg2

from annals.eventlog.embedded import open_embedded
from annals.projectors.rebuild import replay
from annals.schemas.topics import TOPICS
from annals.server.embedded_postgres import EmbeddedPostgres
from benchmarks import replay_log
from benchmarks.processes import cpu_ms
from benchmarks.replay_log import OURS, fill

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "bench" / "replay"
ROOMS, PDUS, RUNS = 50, 100_000, 3
MODES = ("recompute", "fold")
SOURCE, TARGET = "g1", "g2"


@dataclass(frozen=True, slots=True)
class Measured:
    """One replay: CPU and peak memory of the process that runs it; CPU of PostgreSQL, its checkpoints included."""

    pdus: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    postgres_cpu_s: float

    def line(self, mode: str) -> str:
        """For people."""
        rate, work_rate = self.pdus / self.wall_s, self.pdus / self.cpu_s
        each, others = self.cpu_s / self.pdus * 1e6, self.postgres_cpu_s / self.pdus * 1e6
        return (
            f"{mode:9} {rate:8,.0f} PDUs/s   projector {each:6.1f} µs of CPU a PDU ({work_rate:,.0f} a CPU second),"
            f" at most {self.peak_mib:,.0f} MiB; PostgreSQL {others:6.1f} µs"
        )


class Bench:
    """A running PostgreSQL and the log to replay."""

    def __init__(self, pdus: int) -> None:
        self.pdus = pdus
        self.log = FOLDER / f"log-{pdus}-{_made_by()}"
        FOLDER.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(FOLDER / "postgres", ignore_errors=True)
        self.postgres = EmbeddedPostgres(FOLDER / "postgres")
        self.postgres.start()

    def close(self) -> None:
        self.postgres.stop()
        shutil.rmtree(FOLDER / "postgres", ignore_errors=True)

    def prepare(self) -> None:
        """Make the log and decide it once, where that was not done before."""
        if self.log.exists():
            return
        making = self.log.with_name("making")
        shutil.rmtree(making, ignore_errors=True)
        log = open_embedded(making)
        log.ensure_topics(list(TOPICS.values()))
        fill(log, ROOMS, self.pdus)
        log.close()
        self._child("recompute", making, SOURCE, self._database(), profiled=False)
        making.rename(self.log)

    def run(self, mode: str, profiled: bool = False) -> Measured:
        """One replay of a fresh copy into an empty database."""
        copy = FOLDER / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.log, copy)
        url = self._database()
        before = self._postgres_cpu_s()
        told = self._child(mode, copy, TARGET, url, profiled)
        used_s = self._postgres_cpu_s() - before
        shutil.rmtree(copy)
        return Measured(self.pdus, told["wall_s"], told["cpu_s"], told["peak_mib"], used_s)

    def _child(self, mode: str, log: Path, generation: str, url: str, profiled: bool) -> dict[str, float]:
        arguments = [mode, str(log), generation, url, profiled]
        command = [sys.executable, "-m", "benchmarks.replay", "--child", json.dumps(arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        *shown, last = done.stdout.splitlines()
        if shown:
            print("\n".join(shown))
        told: dict[str, float] = json.loads(last)
        return told

    def _database(self) -> str:
        connection = psycopg2.connect(self.postgres.url())
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("DROP DATABASE IF EXISTS replay WITH (FORCE)")
            cursor.execute("CREATE DATABASE replay TEMPLATE template0")
            cursor.execute("CHECKPOINT")
        connection.close()
        return self.postgres.url("replay")

    def _postgres_cpu_s(self) -> float:
        assert self.postgres.process is not None
        return sum(cpu_ms([self.postgres.process.pid]).values()) / 1000


def _made_by() -> str:
    """Tells logs apart that were made by other code."""
    return sha256(Path(replay_log.__file__).read_bytes()).hexdigest()[:8]


def child(mode: str, folder: str, generation: str, url: str, profiled: bool) -> dict[str, float]:
    """The replay itself, in a process of its own."""
    log = open_embedded(Path(folder))
    started, used = time.monotonic(), time.process_time()
    source = SOURCE if mode == "fold" else None
    arguments: Any = (log, url, generation, mode, OURS)
    if profiled:
        _profiled(arguments, source)
    else:
        replay(*arguments, source_generation=source)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"wall_s": time.monotonic() - started, "cpu_s": time.process_time() - used, "peak_mib": peak_mib}
    log.close()
    return told


def _profiled(arguments: Any, source: str | None) -> None:
    import cProfile
    import pstats

    profile = cProfile.Profile()
    profile.runcall(replay, *arguments, source_generation=source)
    stats = pstats.Stats(profile)
    stats.sort_stats("tottime").print_stats(45)
    stats.sort_stats("cumulative").print_stats(60)


def median(runs: Sequence[Measured]) -> Measured:
    """Of each figure."""
    columns = zip(*(asdict(run).values() for run in runs), strict=True)
    pdus, wall_s, cpu_s, peak_mib, postgres_cpu_s = map(statistics.median, columns)
    return Measured(int(pdus), wall_s, cpu_s, peak_mib, postgres_cpu_s)


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.replay", description="Filling a generation from the log.")
    parser.add_argument("--pdus", type=int, default=PDUS)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--mode", choices=MODES)
    parser.add_argument("--profile", action="store_true", help="where the time of the process goes; one run")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.child:
        print(json.dumps(child(*json.loads(chosen.child))))
        return 0
    modes = [chosen.mode] if chosen.mode else MODES
    bench = Bench(chosen.pdus)
    try:
        bench.prepare()
        print(f"replay of {chosen.pdus:,} PDUs in {ROOMS} rooms; {os.cpu_count()} cores", flush=True)
        for mode in modes:
            runs = [bench.run(mode, chosen.profile) for _ in range(1 if chosen.profile else chosen.runs)]
            print(median(runs).line(mode), flush=True)
    finally:
        bench.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
