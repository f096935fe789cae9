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

from tests.support.limits import with_limits
from tests.support.patience import PATIENCE_S
from tests.support.servers import Serve, ServeAlone, alive
from tests.support.waiting import until

ALL = {"postgres", "projectors", "remote", "api"}
SUPERVISOR_RSS_KIB_MAX = 24 * 1024


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """One that starts as an operator starts it. The tests leave it running, but for the last that has it."""
    with ServeAlone(tmp_path_factory.mktemp("alone")) as serve:
        serve.start()
        yield serve


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """One that is started sooner, and again where a test has killed it."""
    # Of one whose supervisor was killed the last process may go late.
    patient = with_limits({"annals.server.http:PORT_PATIENCE_S": PATIENCE_S})
    with Serve(tmp_path_factory.mktemp("server"), **patient) as serve:
        serve.start()
        yield serve


def test_one_process_group_and_a_small_supervisor(alone: Serve) -> None:
    children = running(alone)
    assert {os.getpgid(pid) for pid in children.values()} == {alone.pid}
    status = Path(f"/proc/{alone.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    assert int(found[1]) < SUPERVISOR_RSS_KIB_MAX


def test_a_second_supervisor_leaves_the_first_alone(alone: Serve) -> None:
    children = running(alone)
    second = subprocess.run(
        [sys.executable, "-m", "annals.server.cli", "serve"],
        env=alone.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert second.returncode != 0
    assert "another process runs" in second.stderr
    assert all_children(alone) == children


def test_sigterm_ends_all(alone: Serve) -> None:
    """The last one of those that start alone: it ends that."""
    children = running(alone)
    alone.stop()
    assert not [role for role, pid in children.items() if alive(pid)]
    assert alone.process is not None
    assert alone.process.returncode == 0


@pytest.mark.parametrize("role", sorted(ALL))
def test_a_child_that_dies_comes_back_alone(server: Serve, role: str) -> None:
    before = running(server)
    os.kill(before[role], signal.SIGKILL)
    back = f"{role} is back"
    until(lambda: all_children(server).get(role, before[role]) != before[role], back)
    after = server.children()
    assert {name for name in ALL if after.get(name) == before[name]} == ALL - {role}
    until(server.healthy, "it answers")
    assert "ended status=-9" in server.log.read_text().replace(f"role={role} ", "")


def test_children_end_when_the_supervisor_is_killed(server: Serve) -> None:
    children = running(server)
    os.kill(server.pid, signal.SIGKILL)
    assert server.process is not None
    server.process.wait()
    # At once, while they may still be ending: ports and tables pass to the new ones.
    server.start()
    until(lambda: not [pid for pid in children.values() if alive(pid)], "the end of all children")
    running(server)


def test_all_killed_at_once_starts_again(server: Serve) -> None:
    running(server)
    server.kill_all()
    server.start()
    running(server)


def test_a_port_that_is_taken_ends_it_with_a_reason(tmp_path: Path) -> None:
    with Serve(tmp_path) as refused, socket.socket() as taken:
        taken.bind(("127.0.0.1", refused.port))
        taken.listen()
        with pytest.raises(AssertionError, match="ended with 78") as raised:
            refused.start()
    assert f"cannot listen on 127.0.0.1 port {refused.port}" in str(raised.value)


def test_sigterm_while_it_starts(tmp_path: Path) -> None:
    with Serve(tmp_path) as starting:
        with starting.log.open("wb") as log:
            starting.process = subprocess.Popen(
                [sys.executable, "-m", "annals.server.cli", "serve"],
                env=starting.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until((tmp_path / "data" / "postgres").exists, "its first step")
        starting.stop()
        assert starting.process.returncode == 0


def running(server: Serve) -> dict[str, int]:
    """The children, when all of them run."""
    return until(lambda: all_children(server), "all children")


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
