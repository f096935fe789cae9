from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.processes import cpu_ms, memory, part_of, tree

# A child that computes and ends; then its parent says so and waits.
BUSY = "import time\nwhile time.process_time() < 0.2: pass"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}]); print('done', flush=True); input()"


def test_children_count_also_after_they_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"done\n"
        assert list(tree(parent.pid)) == [parent.pid]
        assert sum(cpu_ms([parent.pid]).values()) >= 190
        parent.stdin.close()


def test_a_tree_has_the_children_that_run() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"up\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"up\n"
        assert {os.getpid(), child.pid} <= set(tree(os.getpid()))
        assert part_of(child.pid) == "cat"
        alone, both = memory([child.pid]), memory([os.getpid()])
        assert 0 < alone.pss_bytes <= alone.rss_bytes < both.rss_bytes
        child.stdin.close()
