"""Ports that tests give to servers: nobody else has them."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import free_port

COUNT = 120
OTHER = f"""
import random
random.SystemRandom.shuffle = lambda *_: None
from tests.support.ports import free_port
print(*(free_port() for _ in range({COUNT})), flush=True)
input()
"""


def test_processes_are_given_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # All begin with the same block.
    monkeypatch.setattr(random.SystemRandom, "shuffle", lambda *_: None)
    others = [
        subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        given = [free_port() for _ in range(COUNT)]
        for other in others:
            assert other.stdout is not None
            given += map(int, other.stdout.readline().split())
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert len(given) == len(set(given)) == 3 * COUNT


def test_the_kernel_gives_them_to_no_connection() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_port() < first for _ in range(COUNT))
