"""CPU time and memory of a server: of its process and all below it, PostgreSQL's backends included. Linux only."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TICK_MS = 1000.0 / os.sysconf("SC_CLK_TCK")
KIB = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Sums over the processes of a server. `pss` counts a shared page once, `rss` once a process."""

    pss_bytes: int
    rss_bytes: int


def tree(root: int) -> Iterator[int]:
    """The pid of `root` and of all that descend from it."""
    yield root
    for task in _listed(Path(f"/proc/{root}/task")):
        for child in _text(task / "children").split():
            yield from tree(int(child))


def cpu_ms(roots: Sequence[int]) -> dict[str, float]:
    """CPU time used so far, by the name of the part (api, projectors, postgres…).

    A process that ended in between is not lost: its parent, which waited for it, counts it among its children's time.
    """
    used: defaultdict[str, float] = defaultdict(float)
    for root in roots:
        for pid in tree(root):
            fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
            if fields:
                # proc(5): utime, stime, cutime, cstime are fields 14 to 17; `fields` begins with the third
                used[part_of(pid)] += sum(int(ticks) for ticks in fields[11:15]) * TICK_MS
    return dict(used)


def memory(roots: Sequence[int]) -> Memory:
    """Memory of these and all below them now."""
    pss = rss = 0
    for pid in (pid for root in roots for pid in tree(root)):
        for line in _text(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
            name, _, value = line.partition(":")
            if name == "Pss":
                pss += int(value.split()[0]) * KIB
            elif name == "Rss":
                rss += int(value.split()[0]) * KIB
    return Memory(pss, rss)


def memory_of_parts(roots: Sequence[int]) -> dict[str, int]:
    """PSS in bytes by the name of the part, of these and all below them now."""
    pss: defaultdict[str, int] = defaultdict(int)
    for pid in (pid for root in roots for pid in tree(root)):
        for line in _text(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
            if line.startswith("Pss:"):
                pss[part_of(pid)] += int(line.split()[1]) * KIB
    return dict(pss)


def part_of(pid: int) -> str:
    """What a process is to its server: by the role that `annals run` was given, else by its program."""
    words = _text(Path(f"/proc/{pid}/cmdline")).split("\0")
    if "run" in words[:-1]:
        return words[words.index("run") + 1]
    program = Path(words[0].split()[0] if words[0] else "ended").name.rstrip(":")
    if program.startswith("python"):
        return "synapse" if any("synapse" in word for word in words[:4]) else "supervisor"
    return program


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # it ended meanwhile
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
