"""A command of the nursery (tests.support.nursery) is a process as one that starts by itself."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path

from tests.support import nursery
from tests.support.limits import with_limits
from tests.support.patience import PATIENCE_S
from tests.support.servers import alive
from tests.support.waiting import until

_SELF = """
import json, os, signal, sys, threading
wakeup = signal.set_wakeup_fd(-1)
print(json.dumps({
    "environment": dict(os.environ), "arguments": sys.argv[1:], "threads": threading.active_count(), "wakeup": wakeup,
    "files": sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{fd}")),
    "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "leads": os.getsid(0) == os.getpid(),
}))
"""


def test_it_has_its_own_of_everything() -> None:
    ended = nursery.run("-c", _SELF, "one", "two", environment={"GIVEN": "yes"})
    assert json.loads(ended.stdout) == {
        "environment": {"GIVEN": "yes"},
        "arguments": ["one", "two"],
        "threads": 1,
        "wakeup": -1,
        "files": [0, 1, 2],
        "term": True,
        "leads": False,
    }


def test_its_status_and_what_it_says() -> None:
    assert nursery.run("--help", environment=os.environ).stdout.startswith("usage: annals")
    wrong = nursery.run("nonsense", environment=os.environ)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "invalid choice" in wrong.stderr
    failed = nursery.run("-c", "raise RuntimeError('why')", environment=os.environ)
    assert failed.returncode == 1
    assert "RuntimeError: why" in failed.stderr


def test_it_can_be_found_and_killed() -> None:
    with tempfile.TemporaryFile() as output:
        program = "print('up', flush=True); import time; time.sleep(3600)"
        command = nursery.begin("-c", program, environment=os.environ, output=output, new_session=True)
        try:
            until(lambda: os.fstat(output.fileno()).st_size, "its first word")
            words = Path(f"/proc/{command.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            assert words[1:] == [b"-c", program.encode()]
            assert os.getsid(command.pid) == command.pid
            assert command.poll() is None
        finally:
            command.kill()
        assert command.wait(PATIENCE_S) == -signal.SIGKILL
        assert not alive(command.pid)


_ASKS_AND_DIES = """
import os, signal, socket, sys
sys.path.insert(0, sys.argv[1])
from tests.support import nursery, nursery_process
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if os.fork() == 0:
    os.dup2(theirs.fileno(), 0)
    ours.close()
    theirs.close()
    nursery_process._serve()
    os._exit(0)
theirs.close()
nursery._nursery = lambda: ours
how = {"environment": os.environ, "output": sys.stdout}
alone, leader = (
    nursery.begin("-c", f"{first}import time; time.sleep(600)", **how, new_session=leads).pid
    for first, leads in (("", False), ("import os; os.fork(); ", True))
)
print(alone, leader, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_begun_ends_with_who_asked_for_it() -> None:
    """However that ended: what went on would take the processors from all that is tested next."""
    checkout = Path(__file__).parents[2]
    ended = nursery.run("-c", _ASKS_AND_DIES, str(checkout), environment=os.environ)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    alone, leader = map(int, ended.stdout.split())
    until(lambda: not alive(alone) and not alive(leader), what="the end of both")
    until(lambda: not _in_group(leader), what="the end of what they began")


def test_limits_are_those_that_were_asked_for() -> None:
    program = "from annals.audit import one_operator; print(one_operator.LOCK_WAIT_S)"
    limits = with_limits({"annals.audit.one_operator:LOCK_WAIT_S": 17.0})
    assert nursery.run("-c", program, environment={**os.environ, **limits}).stdout == "17.0\n"
    unknown = with_limits({"annals.audit.one_operator:LOCK_WAITS": 17.0})
    assert "there is no annals.audit.one_operator:LOCK_WAITS" in nursery.run("-c", "", environment=unknown).stderr


_WAITS = """
from annals.commands.rooms.handshakes import Handshakes
from annals.federation.backoff import DESTINATIONS
from annals.ingest.fetchers import moments
from annals.server.peers import FederationClient
print(FederationClient.patience_s, moments.WAIT_S, Handshakes.__init__.__defaults__[-1], DESTINATIONS.longest_ms)
"""


def test_servers_wait_for_others_and_try_again_as_they_are_told() -> None:
    limits = with_limits(peers_s=17.0, again_ms=400)
    ended = nursery.run("-c", _WAITS, environment={**os.environ, **limits})
    assert (ended.stdout, ended.stderr) == ("17.0 17.0 17.0 400\n", "")


_CLUSTER = """
import pathlib, sys, psycopg2
from annals.server.embedded_postgres import EmbeddedPostgres
cluster = EmbeddedPostgres(pathlib.Path(sys.argv[1]))
connection = psycopg2.connect(cluster.start())
cursor = connection.cursor()
cursor.execute("SELECT generation, (SELECT count(*) FROM g1.events) FROM ops.serving")
print(*cursor.fetchall())
connection.close()
cluster.stop()
"""


def test_a_cluster_begins_with_the_tables_of_a_new_server(tmp_path: Path) -> None:
    ended = nursery.run("-c", _CLUSTER, str(tmp_path / "postgres"), environment=os.environ)
    assert (ended.stdout, ended.stderr) == ("('g1', 0)\n", "")


def _in_group(leader: int) -> list[int]:
    """The processes of a group that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found
