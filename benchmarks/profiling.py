"""Where the time goes: samples of Annals' processes during each work.

py-spy (from the peer's environment, or on PATH) samples the Python processes. One folder holds it all:

    profiles/<work>.<part>.collapsed   stacks for flamegraph.pl, speedscope and the like
    profiles/<work>.<part>.top.txt     functions by their own time, and by that of all they called
    profiles/cpu.txt                   the figures, and CPU of an event by process, with and without the sampling
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
from benchmarks.works import WORKS

FOLDER = Path(__file__).parent / "profiles"
PARTS = ("api", "projectors")
SAMPLES_A_SECOND = 250
ROWS = 45
_LINE = re.compile(r":\d+\)$")


def profile(peer: Peer, seconds: float) -> Path:
    """Sample the Python processes of a server; the folder of the results."""
    sampler = _sampler()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    world = prepared(Preparation(peer.url))
    parts: dict[str, dict[str, dict[str, float]]] = {"undisturbed": {}, "sampled": {}}
    figures: dict[str, float] = {}
    for work in WORKS:
        job = Job(work, world, peer.roots, seconds)
        undisturbed = measure(job)
        figures.update(undisturbed.figures)
        pids = {part_of(pid): pid for root in peer.roots for pid in tree(root)}
        sampling = [_sample(sampler, work, part, pids[part], seconds) for part in PARTS if part in pids]
        disturbed = measure(job)
        for sampled in sampling:
            sampled.wait()
        if undisturbed.parts_cpu_ms:
            parts["undisturbed"][work], parts["sampled"][work] = undisturbed.parts_cpu_ms, disturbed.parts_cpu_ms
    for path in FOLDER.glob("*.collapsed"):
        path.with_suffix(".top.txt").write_text(_top(path.read_text()))
    lines = "\n".join(f"{name} {value:.2f}" for name, value in figures.items())
    (FOLDER / "cpu.txt").write_text(f"{lines}\n\n{as_text(parts_table(parts))}\n")
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


def _sample(sampler: str, work: str, part: str, pid: int, seconds: float) -> subprocess.Popen[bytes]:
    output = FOLDER / f"{work}.{part}.collapsed"
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
