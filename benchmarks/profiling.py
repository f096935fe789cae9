"""Where the time goes: samples of Annals' processes while 20 users send to one room.

py-spy (where it is installed in the peer's environment, or on PATH) samples the Python processes; PostgreSQL's own
pg_stat_statements counts its statements. One folder holds it all:

    profiles/<role>.collapsed      stacks for flamegraph.pl, speedscope and the like
    profiles/<role>.top.txt        functions by their own time, and by that of all they called
    profiles/cpu.txt               CPU of an event by process
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from benchmarks.figures import as_text, parts_table
from benchmarks.generator import Job, Preparation, measure, prepared
from benchmarks.peers import PEER_PYTHON, Peer
from benchmarks.processes import part_of, tree

FOLDER = Path(__file__).parent / "profiles"
SAMPLES_A_SECOND = 250
ROWS = 45
_LINE = re.compile(r":\d+\)$")


def profile(peer: Peer, seconds: float) -> Path:
    """Sample the Python processes of a server; the folder of the results."""
    sampler = _sampler()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    world = prepared(Preparation(peer.url, rooms=0))
    job = Job("many_users", world, peer.roots, seconds)
    undisturbed = measure(job)
    pids = {part_of(pid): pid for root in peer.roots for pid in tree(root)}
    sampling = [_sample(sampler, name, pids[name], seconds) for name in ("api", "projectors") if name in pids]
    disturbed = measure(job)
    for sampled in sampling:
        sampled.wait()
    for path in FOLDER.glob("*.collapsed"):
        path.with_suffix(".top.txt").write_text(_top(path.read_text()))
    parts = {"undisturbed": {"20 users": undisturbed.parts_cpu_ms}, "sampled": {"20 users": disturbed.parts_cpu_ms}}
    figures = "\n".join(f"{name} {value:.2f}" for name, value in undisturbed.figures.items())
    (FOLDER / "cpu.txt").write_text(f"{figures}\n\n{as_text(parts_table(parts))}\n")
    print((FOLDER / "cpu.txt").read_text())
    return FOLDER


def _sampler() -> str:
    found = PEER_PYTHON.parent / "py-spy"
    if found.exists():
        return str(found)
    anywhere = shutil.which("py-spy")
    if anywhere is None:
        raise SystemExit(f"--profile needs py-spy: {PEER_PYTHON} -m pip install py-spy")
    return anywhere


def _sample(sampler: str, name: str, pid: int, seconds: float) -> subprocess.Popen[bytes]:
    output = FOLDER / f"{name}.collapsed"
    command = [sampler, "record", "--pid", str(pid), "--format", "raw", "--output", str(output), "--threads"]
    command += ["--rate", str(SAMPLES_A_SECOND), "--duration", str(max(1, round(seconds))), "--nonblocking"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _top(collapsed: str) -> str:
    """Functions by own time and by time with all they called, in percent of the samples."""
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    total = 0
    for line in collapsed.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_LINE.sub(")", frame) for frame in stack.split(";")]
        samples = int(count)
        total += samples
        own[frames[-1]] += samples
        for frame in set(frames):
            below[frame] += samples
    parts = []
    for title, counted in (("own time", own), ("with all it called", below)):
        rows = [["", title], *([f"{100 * n / total:5.1f} %", name] for name, n in counted.most_common(ROWS))]
        parts.append("\n".join("  ".join(row) for row in rows))
    return "\n\n".join(parts) + "\n"
