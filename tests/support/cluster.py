"""Several processes of each role over one Kafka and one PostgreSQL, behind one address.

with Cluster(folder, broker.bootstrap, namespace, database_url) as cluster:
    cluster.start()                          # topics, tables, two of each role; waits until answers are given
    ann = register(cluster.port, "ann")      # one address for all api processes
    cluster.nodes["projectors"][0].kill()    # SIGKILL; .start() runs it again
    cluster.nodes["projectors"][1].pause()   # SIGSTOP; .resume()
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psycopg2

from annals.server.config import Config
from tests.support import nursery
from tests.support.balancer import Balancer
from tests.support.matrix_client import Client
from tests.support.patience import PATIENCE_S, PATIENT
from tests.support.ports import free_port
from tests.support.servers import alive, config_of
from tests.support.waiting import until

#: How long the broker may take, where no test is about that.
_OF_THE_BROKER = {
    "ANNALS_KAFKA__APPEND_WAIT_S": str(PATIENCE_S),
    "ANNALS_KAFKA__REQUEST_WAIT_S": str(PATIENCE_S),
}


class Node:
    """One process of a cluster."""

    def __init__(self, role: str, log: Path, environment: Mapping[str, str], port: int) -> None:
        self.role, self.log, self.port = role, log, port
        self._environment = environment
        self.process: nursery.Command | None = None

    def start(self) -> None:
        """Run it, where it does not run."""
        if self.runs():
            return
        with self.log.open("ab") as log:
            self.process = nursery.begin("run", self.role, environment=self._environment, output=log)

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.role} was never started"
        return self.process.pid

    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None and alive(self.process.pid)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)


class Cluster:
    """All of it. `port`: the address in front; `nodes`: the processes, by role."""

    def __init__(
        self, directory: Path, bootstrap: str, namespace: str, database_url: str, each: int = 2, **environment: str
    ) -> None:
        self.directory = directory
        self.database_url = database_url
        self.environment: dict[str, str] = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANNALS_")},
            "ANNALS_LOG": "kafka",
            "KAFKA_BOOTSTRAP": bootstrap,
            "ANNALS_KAFKA__NAMESPACE": namespace,
            "DATABASE_URL": database_url,
            "ANNALS_DATA_DIR": str(directory / "data"),
            "ANNALS_REGISTRATION__ENABLED": "true",
            "ANNALS_RATE_LIMITS__ENABLED": "false",
            **PATIENT,
            **_OF_THE_BROKER,
            **environment,
        }
        self.nodes = {role: [self._node(role, n) for n in range(each)] for role in ("api", "projectors", "remote")}
        self._balancer = Balancer([node.port for node in self.nodes["api"]])

    def _node(self, role: str, number: int) -> Node:
        port = free_port()
        environment = {**self.environment, "ANNALS_CLIENT_LISTENERS": f'[{{"port": {port}}}]'}
        return Node(role, self.directory / f"{role}-{number}.log", environment, port)

    @property
    def port(self) -> int:
        return self._balancer.port

    @property
    def config(self) -> Config:
        """The settings of its processes, for a look at log and tables from the test, which waits for the broker."""
        return config_of({**self.environment, **_OF_THE_BROKER})

    def annals(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One `annals` command in the cluster's environment; it waits for the broker."""
        return nursery.run(*words, environment={**self.environment, **_OF_THE_BROKER})

    def prepare(self) -> None:
        """Make topics and tables."""
        for words in (("log", "init"), ("migrate",)):
            done = self.annals(*words)
            assert done.returncode == 0, (words, done.stdout, done.stderr)

    def start(self) -> None:
        """Run whatever does not run, and wait until answers are given."""
        for node in self.all():
            node.start()
        until(self.answers, f"answers; see {self.directory}")

    def all(self) -> list[Node]:
        return [node for nodes in self.nodes.values() for node in nodes]

    def answers(self) -> bool:
        """Is every api process up, with tables that have the log?"""
        for node in self.nodes["api"]:
            assert node.runs(), node.log.read_text()[-3000:]
            try:
                if Client(node.port, timeout_s=PATIENCE_S).call("GET", "/login")[0] != 200:
                    return False
            except OSError:
                return False
        return True

    def claims(self) -> dict[tuple[str, int], tuple[str | None, int]]:
        """Owner and epoch of each partition, as the position rows say."""
        with contextlib.closing(psycopg2.connect(self.database_url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT topic, partition, owner, epoch FROM g1.positions")
            return {(topic, partition): (owner, epoch) for topic, partition, owner, epoch in cursor.fetchall()}

    def owners(self) -> set[str | None]:
        """Who owns partitions now; None for one that nobody has taken yet."""
        return {owner for owner, _ in self.claims().values()}

    def stream(self, room_id: str) -> list[str]:
        """The room's events in the order in which they became visible."""
        with contextlib.closing(psycopg2.connect(self.database_url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT event_id FROM g1.events WHERE room_id = %s ORDER BY position", (room_id,))
            return [event_id for (event_id,) in cursor.fetchall()]

    def add(self, role: str) -> Node:
        """One more process of a role, behind no address; not started yet."""
        node = self._node(role, len(self.nodes[role]))
        self.nodes[role].append(node)
        return node

    def stop(self) -> None:
        """SIGTERM to everybody, the projectors last; then whoever still runs is killed."""
        for role in ("api", "remote", "projectors"):
            for node in self.nodes[role]:
                if node.runs():
                    node.resume()
                    node.stop()

    def __enter__(self) -> Cluster:
        self._balancer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # All of them, whatever becomes of one.
        with contextlib.ExitStack() as ends:
            ends.callback(self._balancer.__exit__, kind, error, trace)
            for node in self.all():
                ends.callback(node.kill)
