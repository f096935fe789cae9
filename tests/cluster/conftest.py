"""Two processes of each role on the run's Kafka, behind one address; at the end the tables are built again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from annals.database.migrate import migrate
from tests.support.cluster import Cluster
from tests.support.crashes import People, introduced
from tests.support.kafka import KafkaAddress
from tests.support.postgres import PostgresServer
from tests.support.rebuild_check import assert_rebuild_equal, decided_twice


@pytest.fixture(scope="package")
def cluster(
    kafka: KafkaAddress, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    url = postgres.fresh_database("cluster")
    migrate(url)
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder, kafka.bootstrap, f"cluster{secrets.token_hex(6)}", url) as cluster:
        cluster.prepare()
        cluster.start()
        yield cluster
        cluster.start()
        cluster.stop()
        assert decided_twice(cluster.config, but_void=True) == []
        assert_rebuild_equal(cluster.config)


@pytest.fixture(scope="package")
def people(cluster: Cluster) -> People:
    return introduced(cluster.port)
