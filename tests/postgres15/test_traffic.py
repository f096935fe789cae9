"""A whole server on an operator's PostgreSQL 15, and its tables built anew."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from annals.server.config import Config
from annals.server.operator_access import opened_log
from tests.support.client_traffic import make_traffic
from tests.support.matrix_client import timeline
from tests.support.rebuild_check import assert_generations_equal
from tests.support.servers import Serve


def test_what_clients_said_is_rebuilt_equal(database_url: str, tmp_path: Path) -> None:
    with Serve(tmp_path, DATABASE_URL=database_url) as server:
        server.start()
        assert "postgres" not in server.children()
        traffic = make_traffic(server.port)
        # Started again, on the tables that are there.
        server.stop()
        server.start()
        said = traffic.ann.say(traffic.rooms[0], "after the restart", patient=True)
        assert said in timeline(traffic.ann.sync(), traffic.rooms[0])
        server.stop()
    config = Config(data_dir=tmp_path / "data", database_url=SecretStr(database_url))
    with opened_log(config) as log:
        assert_generations_equal(log, database_url, config.server_name)
