"""Drop and rebuild, over what clients said to a running server (HTTP, two api processes, all room versions)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from annals.audit.row_diff import diff_rows
from annals.projectors.rooms.decided import MARK_KEY
from annals.server.config import Config
from annals.server.operator_access import opened_log, opened_tables
from tests.support.backends import LogBackend
from tests.support.client_traffic import Traffic, make_traffic
from tests.support.crashes import Watch
from tests.support.matrix_client import timeline
from tests.support.rebuild_check import assert_equal, assert_rebuild_equal, decided_twice
from tests.support.second_api import SecondApi
from tests.support.servers import Serve
from tests.support.waiting import until

ASIDE = "g900"
HELD = Path(__file__).parents[1] / "support" / "held"


@pytest.fixture(scope="module")
def hold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file exists, the projectors stand still half-way."""
    return tmp_path_factory.mktemp("hold") / "hold"


@pytest.fixture(scope="module")
def server(log_backend: LogBackend, hold: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    path = os.pathsep.join(filter(None, (str(HELD), os.environ.get("PYTHONPATH"))))
    environment = {"PYTHONPATH": path, "TEST_HOLD_FILE": str(hold), **log_backend.environment()}
    with Serve(tmp_path_factory.mktemp("rebuild"), **environment) as serve:
        serve.start()
        yield serve


@pytest.fixture(scope="module")
def traffic(server: Serve) -> Traffic:
    with SecondApi(server) as other:
        return make_traffic(server.port, other.port)


@pytest.fixture(scope="module")
def before(server: Serve, traffic: Traffic) -> dict[str, Any]:
    """What tokens from the middle of the traffic show; the server is stopped then."""
    shown = _shown(traffic)
    server.stop()
    return shown


def test_a_fold_and_a_recompute_beside_it_are_equal(server: Serve, before: dict[str, Any]) -> None:
    assert before
    assert_rebuild_equal(server.config)


def test_a_lost_generation_is_folded_again_at_start(
    server: Serve, traffic: Traffic, before: dict[str, Any], hold: Path
) -> None:
    config = server.config
    with opened_tables(config) as database:
        assert database is not None
        _execute(database.url, f"ALTER SCHEMA g1 RENAME TO {ASIDE}")
    decided = _decisions(config)

    hold.touch()
    server.environment = {**server.environment, "ANNALS_STARTING_WAIT_S": "0"}
    with Watch(traffic.ann, syncs=False) as watch:
        server.start()
        until(lambda: any(_positions(config, "g1").values()), what="the first of them are filled")
        assert _positions(config, "g1") != _positions(config, ASIDE)
        seen = len(watch.whoami)
        until(lambda: len(watch.whoami) > seen + 3, what="some answers")
        hold.unlink()
        until(lambda: 200 in watch.whoami, what="it is served again")
    # Nobody is told that what is on the log is not there; until it is served again it is "not now".
    assert set(watch.whoami) == {503, 200}, watch.whoami
    assert 503 not in watch.whoami[watch.whoami.index(200) :]

    with opened_tables(config) as database:
        assert database is not None
        assert_equal(diff_rows(database, ASIDE, "g1"), "what was set aside and what was rebuilt")
        _execute(database.url, f"DROP SCHEMA {ASIDE} CASCADE")
    assert _decisions(config) == decided
    assert _shown(traffic) == before
    # Tokens go on: what is said now comes once, and nothing else does.
    (room_id, *_), bob = traffic.rooms, traffic.bob
    event_id = bob.say(room_id, "after the rebuild")
    for client in (traffic.ann, bob):
        news = client.sync(tokens(before)[client.user_id], timeout=0)
        assert [timeline(news, room) for room in traffic.rooms] == [[event_id], [], []]
        assert timeline(client.sync(news["next_batch"], timeout=0), room_id) == []
    server.stop()
    assert decided_twice(config) == []
    # A fold of it was compared already: with what was set aside.
    assert_rebuild_equal(config, modes=("recompute",))


def tokens(shown: dict[str, Any]) -> dict[str, str]:
    """The last token that each was given."""
    found: dict[str, str] = shown["tokens"]
    return found


def _shown(traffic: Traffic) -> dict[str, Any]:
    """What each sees from a token of before, page by page, and in an initial sync."""
    shown: dict[str, Any] = {"tokens": {}}
    for client in (traffic.ann, traffic.bob):
        initial = client.sync(patient=True)
        shown["tokens"][client.user_id] = initial["next_batch"]
        shown[f"{client.user_id} initial"] = _without_times(initial)
        shown[f"{client.user_id} since"] = _without_times(client.sync(traffic.since[client.user_id], timeout=0))
        for room_id in traffic.rooms:
            shown[f"{client.user_id} {room_id}"] = [event["event_id"] for event in client.history(room_id)]
    return shown


def _without_times(value: Any) -> Any:
    """Without what is told by the clock."""
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in ("age", "next_batch")}
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return value


def _execute(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def _decisions(config: Config) -> int:
    """How many decisions there are, whoever made them."""
    with opened_log(config) as log:
        marked = 0
        total = 0
        for partition, end in enumerate(log.ends("decisions.g1")):
            total += end
            records = log.read("decisions.g1", partition, 0, max_records=100_000)
            marked += sum(record.key == MARK_KEY for record in records)
        return total - marked


def _positions(config: Config, generation: str) -> dict[tuple[str, int], int]:
    with opened_tables(config) as database:
        assert database is not None
        sql = f"SELECT topic, partition, next_offset FROM {generation}.positions"
        rows = database.write_now(lambda statements: statements.rows(sql))
    return {(topic, partition): offset for topic, partition, offset in rows}
