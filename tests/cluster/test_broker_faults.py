"""The broker is killed, slow, full, gone: sends answer 503 in time, nothing acknowledged is lost, all recovers."""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import time
from collections.abc import Iterator
from types import TracebackType

import pytest

from annals.database.migrate import migrate
from tests.support.cluster import Cluster
from tests.support.crashes import People, Talker, Watch, introduced, said_by
from tests.support.kafka import KafkaBroker
from tests.support.matrix_client import Client
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer
from tests.support.rebuild_check import assert_rebuild_equal, decided_twice
from tests.support.waiting import until

#: How long a record waits for the broker before the request is refused.
APPEND_WAIT_S = 4.0
#: Longer than an append waits for the broker, and than a member of a group may be silent (6 s).
GONE_S = float(os.environ.get("TEST_BROKER_GONE_S", "8"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
def cluster(
    broker: KafkaBroker, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    url = postgres.fresh_database("faults")
    migrate(url)
    folder = tmp_path_factory.mktemp("faults")
    limits = {
        "ANNALS_KAFKA__APPEND_WAIT_S": str(APPEND_WAIT_S),
        "ANNALS_KAFKA__REQUEST_WAIT_S": "10",
        # What was on the log when the broker went waits for tables that do not come.
        "ANNALS_TABLES_WAIT_S": "10",
    }
    with Cluster(folder, broker.bootstrap, f"faults{secrets.token_hex(4)}", url, each=1, **limits) as cluster:
        cluster.prepare()
        cluster.start()
        yield cluster
        cluster.start()
        cluster.stop()
        assert decided_twice(cluster.config) == []
        assert_rebuild_equal(cluster.config)


@pytest.fixture(scope="module")
def people(cluster: Cluster) -> People:
    return introduced(cluster.port)


class Fault:
    """People talk while something is wrong with the broker; what they were answered is kept.

    Whatever comes of it, the broker runs when it is over: what follows is about something else.
    """

    def __init__(self, cluster: Cluster, people: People, broker: KafkaBroker, name: str) -> None:
        self.cluster, self.people, self.broker = cluster, people, broker
        self.ann, self.bob = (
            Talker(people.ann, people.room_id, f"ann-{name}"),
            Talker(people.bob, people.room_id, f"bob-{name}"),
        )
        self.watch = Watch(people.bob)
        self._parts = contextlib.ExitStack()

    def __enter__(self) -> Fault:
        with contextlib.ExitStack() as parts:
            parts.callback(self._mend)
            for part in (self.watch, self.ann, self.bob):
                parts.enter_context(part)
            until(lambda: self.ann.goes_on_from(0) and self.bob.goes_on_from(0), "both talk")
            self._parts = parts.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.__exit__(kind, error, trace)

    def _mend(self) -> None:
        if not self.broker.running:
            self.broker.start()

    def goes_on(self) -> None:
        """Both talk again, with no help."""
        counts = [len(talker.acknowledged) for talker in (self.ann, self.bob)]
        until(
            lambda: all(t.goes_on_from(n) for t, n in zip((self.ann, self.bob), counts, strict=True)),
            "both talk again",
        )

    def check(self) -> None:
        """Nothing acknowledged is lost or doubled; nobody was told anything but "not now"."""
        self.watch.check()
        history = self.people.bob.history(self.people.room_id)
        for talker in (self.ann, self.bob):
            assert said_by(talker, history) == talker.acknowledged
            # 0 would be a client that gave up waiting: each answer came in bounded time.
            assert set(talker.seen) <= {200, 503}, sorted(set(talker.seen))
        assert all(node.runs() for node in self.cluster.all()), "a process ended"


def send_is_refused(people: People) -> None:
    """A send while the broker is away: 503, and the client is not left to wait until it comes back."""
    client = Client(people.ann.port, people.ann.user_id, people.ann.token, timeout_s=PATIENCE_S)
    path = f"/rooms/{people.room_id}/send/m.room.message/{secrets.token_hex(4)}"
    status, answer = client.call("PUT", path, {"msgtype": "m.text", "body": "refused"})
    assert (status, "errcode" in answer) == (503, True)


def test_it_is_killed_and_started_again(cluster: Cluster, people: People, broker: KafkaBroker) -> None:
    with Fault(cluster, people, broker, "killed") as fault:
        broker.kill()
        broker.start()
        fault.goes_on()
    fault.check()


def test_it_is_slow(cluster: Cluster, people: People, broker: KafkaBroker) -> None:
    with Fault(cluster, people, broker, "slow") as fault:
        for _ in range(10):
            with broker.paused():
                time.sleep(0.4)
            time.sleep(0.1)
        fault.goes_on()
    fault.check()


def test_it_is_gone_for_a_while(cluster: Cluster, people: People, broker: KafkaBroker) -> None:
    with Fault(cluster, people, broker, "gone") as fault:
        broker.kill()
        send_is_refused(people)
        time.sleep(GONE_S)
        send_is_refused(people)
        until(lambda: 503 in fault.ann.seen, "who talks hears of it")
        broker.start()
        fault.goes_on()
    fault.check()


def test_it_hangs(cluster: Cluster, people: People, broker: KafkaBroker) -> None:
    """It holds its connections and answers nothing."""
    with Fault(cluster, people, broker, "hung") as fault:
        with broker.paused():
            send_is_refused(people)
        fault.goes_on()
    fault.check()


def test_its_disk_is_full(cluster: Cluster, people: People, broker: KafkaBroker) -> None:
    """No file may grow: writing fails as on a full disk, and the broker gives its log folder up."""
    with Fault(cluster, people, broker, "full") as fault:
        _, most = resource.prlimit(broker.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (1, most))
        until(lambda: not broker.running, "the broker gives up")
        send_is_refused(people)
        broker.start()
        fault.goes_on()
    fault.check()
