"""`annals serve`: the processes of a server, and what is left when one of them, or all, are killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Serve, ServeAlone, alive, until

ALL = {"postgres", "projectors", "remote", "api"}
SUPERVISOR_RSS_KIB_MAX = 24 * 1024


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serve]:
    with Serve(tmp_path) as serve:
        yield serve


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Serve]:
    with ServeAlone(tmp_path) as serve:
        yield serve


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """One that the tests share which leave it running; it starts as an operator starts it."""
    with ServeAlone(tmp_path_factory.mktemp("running")) as serve:
        serve.start()
        yield serve


def test_one_process_group_and_a_small_supervisor(running: Serve) -> None:
    children = until(lambda: all_children(running))
    assert {os.getpgid(pid) for pid in children.values()} == {running.pid}
    status = Path(f"/proc/{running.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    assert int(found[1]) < SUPERVISOR_RSS_KIB_MAX


@pytest.mark.parametrize("role", sorted(ALL))
def test_a_child_that_dies_comes_back_alone(running: Serve, role: str) -> None:
    before = until(lambda: all_children(running))
    os.kill(before[role], signal.SIGKILL)
    until(lambda: all_children(running).get(role, before[role]) != before[role], 90, f"{role} is back")
    after = running.children()
    assert {name for name in ALL if after.get(name) == before[name]} == ALL - {role}
    until(running.healthy)
    assert "ended status=-9" in running.log.read_text().replace(f"role={role} ", "")


def test_a_second_supervisor_leaves_the_first_alone(running: Serve) -> None:
    children = until(lambda: all_children(running))
    second = subprocess.run(
        [sys.executable, "-m", "annals.server.cli", "serve"],
        env=running.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode != 0
    assert "another process runs" in second.stderr
    assert all_children(running) == children


def test_sigterm_ends_all(alone: Serve) -> None:
    alone.start()
    children = until(lambda: all_children(alone))
    assert alone.stop(15) < 15
    assert not [role for role, pid in children.items() if alive(pid)]
    assert alone.process is not None
    assert alone.process.returncode == 0


def test_children_end_when_the_supervisor_is_killed(server: Serve) -> None:
    server.start()
    children = until(lambda: all_children(server))
    os.kill(server.pid, signal.SIGKILL)
    assert server.process is not None
    server.process.wait()
    # At once, while they may still be ending: ports and tables pass to the new ones.
    server.start()
    until(lambda: not [pid for pid in children.values() if alive(pid)], 90, "the end of all children")
    until(lambda: all_children(server))


def test_all_killed_at_once_starts_again(server: Serve) -> None:
    server.start()
    until(lambda: all_children(server))
    server.kill_all()
    server.start()
    until(lambda: all_children(server))


def test_a_port_that_is_taken_ends_it_with_a_reason(server: Serve) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()
        with pytest.raises(AssertionError, match="ended with 78") as raised:
            server.start()
    assert f"cannot listen on 127.0.0.1 port {server.port}" in str(raised.value)


def test_sigterm_while_it_starts(server: Serve) -> None:
    with server.log.open("wb") as log:
        server.process = subprocess.Popen(
            [sys.executable, "-m", "annals.server.cli", "serve"],
            env=server.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until(lambda: (server.directory / "data" / "postgres").exists(), 90)
    assert server.stop(15) < 15
    assert server.process.returncode == 0


def all_children(server: Serve) -> dict[str, int]:
    """The children, once all of them run, and PostgreSQL is done with starting; nothing before.

    A PostgreSQL that finds memory of one that was killed ends at once, and is started once more.
    """
    children = server.children()
    return children if children.keys() >= ALL and _is_ready(server, children["postgres"]) else {}


def _is_ready(server: Serve, pid: int) -> bool:
    try:
        lines = (server.directory / "data" / "postgres" / "pgdata" / "postmaster.pid").read_text().split()
    except OSError:
        return False
    return lines[:1] == [str(pid)] and lines[-1] == "ready"
