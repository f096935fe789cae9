"""`python -m benchmarks`: start the peers, measure them in turn, print one table, write benchmarks/results.json."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks import replay, resolution, scale
from benchmarks.federation import beside
from benchmarks.figures import as_markdown, as_text, medians, parts_table, table
from benchmarks.generator import Job, Preparation, measure, prepared
from benchmarks.peers import CHECKOUT, PEERS, DidNotStart, Peer
from benchmarks.processes import cpu_ms, memory
from benchmarks.profiling import profile
from benchmarks.works import WORKS, World

RESULTS = Path(__file__).parent / "results.json"
FOLDER = CHECKOUT / ".cache" / "bench"
MIB = 1 << 20
SETTLE_S, REST_S = 3.0, 5.0


class Run:
    """All that is measured of the peers that run now."""

    def __init__(self, peers: Sequence[Peer], seconds: float) -> None:
        self.peers = peers
        self.seconds = seconds
        self.runs: dict[str, list[dict[str, float]]] = {peer.name: [] for peer in peers}
        self.parts: dict[str, dict[str, list[dict[str, float]]]] = {peer.name: defaultdict(list) for peer in peers}

    def at_rest(self, prefix: str) -> None:
        """Memory and CPU of all peers while nobody asks anything."""
        time.sleep(SETTLE_S)
        before = [sum(cpu_ms(peer.roots).values()) for peer in self.peers]
        time.sleep(REST_S)
        for peer, used_ms in zip(self.peers, before, strict=True):
            now = memory(peer.roots)
            percent = (sum(cpu_ms(peer.roots).values()) - used_ms) / (REST_S * 10)
            figures = {"pss_mib": now.pss_bytes / MIB, "rss_mib": now.rss_bytes / MIB, "cpu_percent": percent}
            self.runs[peer.name].append({f"{prefix}_{name}": value for name, value in figures.items()})

    def works(self, worlds: Sequence[World], number: int) -> None:
        """Each work once, the peers in turn; the one that begins changes from run to run."""
        order = list(zip(self.peers, worlds, strict=True))
        if number % 2:
            order.reverse()
        figures: dict[str, dict[str, float]] = {peer.name: {} for peer in self.peers}
        for work in WORKS:
            for peer, world in order:
                outcome = measure(Job(work, world, peer.roots, self.seconds))
                figures[peer.name].update(outcome.figures)
                if outcome.parts_cpu_ms:
                    self.parts[peer.name][work].append(outcome.parts_cpu_ms)
                shown = ", ".join(f"{name} {value:.2f}" for name, value in outcome.figures.items())
                say(f"run {number + 1}, {peer.name}: {shown}")
        for peer in self.peers:
            self.runs[peer.name].append(figures[peer.name])

    def report(self) -> None:
        """Print the tables, write the results."""
        measured = {name: medians(runs) for name, runs in self.runs.items()}
        parts = {
            name: {work: medians(several) for work, several in works.items()} for name, works in self.parts.items()
        }
        rows = table(measured)
        print(f"\n{as_text(rows)}\n\n{as_text(parts_table(parts))}\n\n{as_markdown(rows)}\n")
        result = {"cores": os.cpu_count(), "medians": measured, "cpu_ms_by_part": parts, "runs": self.runs}
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        say(f"written to {RESULTS.relative_to(CHECKOUT)}")


def say(what: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {what}", file=sys.stderr, flush=True)


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Annals and Synapse, measured beside each other.")
    parser.add_argument("--only", choices=PEERS, help="measure one of the two")
    parser.add_argument("--quick", action="store_true", help="one short run")
    parser.add_argument("--profile", action="store_true", help="sample Annals during each work; no table")
    parser.add_argument("--replay", action="store_true", help="replays of a log of 100,000 PDUs instead")
    parser.add_argument("--resolution", action="store_true", help="a resolution of 20 states of 5,000 members instead")
    parser.add_argument("--scale", action="store_true", help="states and auth chains of large rooms instead")
    parser.add_argument("--federation", action="store_true", help="what other servers push, and joins of large rooms")
    parser.add_argument("--runs", type=int, default=None, help="number of runs (3)")
    parser.add_argument("--seconds", type=float, default=None, help="length of each measurement (6)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    chosen = options(arguments)
    if chosen.replay:
        return replay.main([])
    if chosen.resolution:
        return resolution.main()
    if chosen.scale:
        return scale.main([])
    if chosen.federation:
        return beside.main(["--runs", str(chosen.runs or 3)])
    runs = chosen.runs or (1 if chosen.quick else 3)
    seconds = chosen.seconds or (2.0 if chosen.quick else 6.0)
    names = ["annals"] if chosen.profile else [chosen.only] if chosen.only else list(PEERS)
    try:
        with contextlib.ExitStack() as running:
            peers = []
            for name in names:
                say(f"starting {PEERS[name].name}")
                peers.append(running.enter_context(PEERS[name](FOLDER / name)))
            if chosen.profile:
                say(f"sampled; see {profile(peers[0], seconds).relative_to(CHECKOUT)}")
            else:
                bench(peers, runs, seconds)
    except DidNotStart as error:
        say(str(error))
        return 1
    except subprocess.CalledProcessError as error:
        say(f"gave up: {error.cmd[2]} ended with {error.returncode}; the servers' logs are {FOLDER}/*/log")
        return 1
    return 0


def bench(peers: Sequence[Peer], runs: int, seconds: float) -> None:
    """Measure these servers, which have just been started."""
    run = Run(peers, seconds)
    run.at_rest("rest")
    worlds = []
    for peer in peers:
        say(f"preparing {peer.name}: users, and 50 rooms of 20 events")
        worlds.append(prepared(Preparation(peer.url)))
    for number in range(runs):
        run.works(worlds, number)
    run.at_rest("worked")
    run.report()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
