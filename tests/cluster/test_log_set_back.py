"""A broker restored from an older state, a topic made anew: the server stops with instructions, and skips nothing."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from confluent_kafka.admin import AdminClient

from annals.database.migrate import migrate
from annals.projectors.positions.read import covers, projected_ends
from annals.server.log_setup import open_log
from tests.support.cluster import Cluster
from tests.support.crashes import introduced
from tests.support.kafka import KafkaBroker
from tests.support.matrix_client import Client
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer
from tests.support.waiting import until

SAID = 5


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def cluster(broker: KafkaBroker, postgres: PostgresServer, tmp_path: Path) -> Iterator[Cluster]:
    url = postgres.fresh_database("set_back")
    migrate(url)
    # Of a log that was made anew some hear that nothing can be written, and others wait for tables that do not come.
    limits = {"ANNALS_TABLES_WAIT_S": "10", "ANNALS_KAFKA__MEMBER_WAIT_S": "30"}
    with Cluster(tmp_path, broker.bootstrap, f"back{secrets.token_hex(4)}", url, each=1, **limits) as cluster:
        cluster.prepare()
        cluster.start()
        yield cluster


def events_and_positions(cluster: Cluster) -> list[Any]:
    with contextlib.closing(psycopg2.connect(cluster.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT room_id, event_id, source FROM g1.events ORDER BY 1, 2")
        events = cursor.fetchall()
        cursor.execute("SELECT topic, partition, next_offset FROM g1.positions ORDER BY 1, 2")
        return [events, cursor.fetchall()]


def settled_events_and_positions(cluster: Cluster) -> list[Any]:
    """The same once the tables have all of the log: of some facts nobody has awaited the outcome."""
    with contextlib.closing(open_log(cluster.config)) as log:
        ends = projected_ends(log)

    def caught_up() -> bool:
        return covers({(topic, number): at for topic, number, at in events_and_positions(cluster)[1]}, ends)

    until(caught_up, "the tables have the log")
    return events_and_positions(cluster)


def stopped_with_instructions(cluster: Cluster, role: str) -> None:
    (node,) = cluster.nodes[role]
    until(lambda: not node.runs(), f"{role} stops")
    said = node.log.read_text()
    assert "restore the log that belongs to this database" in said, said[-2000:]
    assert "set the tables aside" in said


def test_a_broker_restored_from_an_older_state(cluster: Cluster, broker: KafkaBroker, tmp_path: Path) -> None:
    people = introduced(cluster.port)
    # A copy of its disk at one moment, as a crash would leave it.
    with broker.paused():
        shutil.copytree(broker.data, tmp_path / "older")
    for number in range(SAID):
        people.ann.say(people.room_id, f"later {number}", patient=True)
    cluster.stop()
    broker.kill()
    shutil.rmtree(broker.data)
    shutil.move(tmp_path / "older", broker.data)
    broker.start()
    before = events_and_positions(cluster)
    for node in cluster.all():
        node.start()
    for role in ("projectors", "api", "remote"):
        stopped_with_instructions(cluster, role)
    assert events_and_positions(cluster) == before


def test_a_topic_made_anew_beneath_a_running_server(cluster: Cluster, broker: KafkaBroker) -> None:
    people = introduced(cluster.port)
    for number in range(SAID):
        people.ann.say(people.room_id, f"before {number}", patient=True)
    before = settled_events_and_positions(cluster)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    topic = f"{cluster.environment['ANNALS_KAFKA__NAMESPACE']}.rooms"
    admin.delete_topics([topic])[topic].result(PATIENCE_S)
    until(lambda: topic not in admin.list_topics(timeout=PATIENCE_S).topics, "it is gone")
    made = cluster.annals("log", "init")
    assert made.returncode == 0, made.stderr
    # Not one send is answered with what stands in the tables at its new, low offset.
    client = Client(people.ann.port, people.ann.user_id, people.ann.token, timeout_s=PATIENCE_S)
    for number in range(SAID):
        with contextlib.suppress(OSError):
            status, answer = client.call(
                "PUT",
                f"/rooms/{people.room_id}/send/m.room.message/anew{number}",
                {"msgtype": "m.text", "body": f"anew {number}"},
            )
            assert status == 503, answer
    stopped_with_instructions(cluster, "projectors")
    assert events_and_positions(cluster) == before
