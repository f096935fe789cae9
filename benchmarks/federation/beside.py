"""`make bench ARGS=--federation`: start both servers, let other servers push into them in turn, print one table."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec

from benchmarks.federation.flood import Figures, Flood
from benchmarks.federation.servers import SERVERS
from benchmarks.peers import CHECKOUT, DidNotStart
from tests.support.scripted_peer import make_authority

FOLDER = CHECKOUT / ".cache" / "bench-federation"
RESULTS = CHECKOUT / "benchmarks" / "federation" / "results.json"
ROOM_VERSION = "12"
FLOOD_TIMEOUT_S = 1800
WINDOWS = {"annals": 0, "synapse": 50}

#: Work, number of servers (a room each), members of each room, PDUs of all together.
WORKS = {
    "one server, a room of 1,000": (1, 1_000, 5_000),
    "10 servers, 10 rooms of 1,000": (10, 1_000, 5_000),
    "one server, a room of 10,000": (1, 10_000, 5_000),
}


def say(what: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {what}", file=sys.stderr, flush=True)


def flood(job: Flood) -> Figures:
    """Run a job in a process of its own. Raises CalledProcessError when it failed (its errors are on stderr)."""
    command = [sys.executable, "-m", "benchmarks.federation.flood", msgspec.json.encode(job).decode()]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=FLOOD_TIMEOUT_S)
    return msgspec.json.decode(done.stdout, type=Figures)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.federation.beside")
    parser.add_argument("--only", choices=SERVERS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--divide", type=int, default=1, help="push so many times less (for a quick look)")
    parser.add_argument("--work", type=int, choices=range(len(WORKS)), default=None)
    chosen = parser.parse_args(arguments)
    names = [chosen.only] if chosen.only else list(SERVERS)
    works = list(WORKS.items()) if chosen.work is None else [list(WORKS.items())[chosen.work]]
    measured: dict[str, dict[str, list[Figures]]] = {name: {} for name in names}
    shutil.rmtree(FOLDER, ignore_errors=True)
    authority = make_authority(FOLDER / "authority")
    try:
        with contextlib.ExitStack() as running:
            servers = {name: SERVERS[name](FOLDER / name, authority) for name in names}
            for name, server in servers.items():
                say(f"starting {name}")
                running.enter_context(server)
            for number in range(chosen.runs):
                for work, (count, members, events) in works:
                    for name, server in servers.items():
                        job = Flood(
                            url=server.url,
                            server_name=f"127.0.0.1:{server.federation_port}",
                            roots=server.roots,
                            user=f"reader{number}-{len(measured[name])}-{time.monotonic_ns()}",
                            cert=str(authority.cert),
                            key=str(authority.key),
                            folder=str(FOLDER / "remote"),
                            servers=count,
                            members=members,
                            events=events // chosen.divide,
                            version=ROOM_VERSION,
                            window=WINDOWS[name],
                        )
                        figures = flood(job)
                        measured[name].setdefault(work, []).append(figures)
                        say(f"run {number + 1}, {work}, {name}: {shown(figures)}")
    except DidNotStart as error:
        say(str(error))
        return 1
    report(measured)
    return 0


def shown(figures: Figures) -> str:
    parts = ", ".join(f"{part} {ms:.2f}" for part, ms in sorted(figures.parts_cpu_ms.items()) if ms > 0.005)
    return (
        f"{figures.pdus_per_s:.0f} PDUs/s, {figures.cpu_ms_per_pdu:.2f} ms CPU ({parts}); "
        f"join {figures.join_s:.1f} s, {figures.join_mib:.0f} MiB"
    )


def report(measured: dict[str, dict[str, list[Figures]]]) -> None:
    """Print medians as a Markdown table, write the results."""
    medians = {
        name: {
            work: {
                field: statistics.median(getattr(one, field) for one in runs)
                for field in ("pdus_per_s", "cpu_ms_per_pdu", "join_s", "join_mib")
            }
            for work, runs in works.items()
        }
        for name, works in measured.items()
    }
    print(
        "| work | server | PDUs/s | CPU a PDU (ms) | join (s) | memory of the join (MiB) |\n|---|---|---|---|---|---|"
    )
    for work in next(iter(medians.values())):
        for name, works in medians.items():
            of = works[work]
            figures = f"{of['pdus_per_s']:.0f} | {of['cpu_ms_per_pdu']:.2f} | {of['join_s']:.1f} | {of['join_mib']:.0f}"
            print(f"| {work} | {name} | {figures} |")
        if len(medians) == 2:
            ours, theirs = medians["annals"][work], medians["synapse"][work]
            more = ours["pdus_per_s"] / theirs["pdus_per_s"]
            less, join = theirs["cpu_ms_per_pdu"] / ours["cpu_ms_per_pdu"], theirs["join_s"] / ours["join_s"]
            print(f"| {work} | times better | {more:.1f} | {less:.1f} | {join:.1f} | |")
    RESULTS.write_text(json.dumps({"cores": os.cpu_count(), "medians": medians}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
