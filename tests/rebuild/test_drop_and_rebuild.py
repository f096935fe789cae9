"""Drop and rebuild, over what clients said to a running server (HTTP, two api processes, all room versions)."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from annals.audit.row_diff import diff_rows
from annals.projectors.rooms.decided import MARK_KEY
from annals.server.config import Config
from annals.server.operator_access import opened_log, opened_tables
from tests.support.backends import LogBackend
from tests.support.client_traffic import Traffic, make_traffic
from tests.support.matrix_client import Client, timeline
from tests.support.rebuild_check import assert_equal, assert_rebuild_equal, decided_twice
from tests.support.second_api import SecondApi
from tests.support.servers import Serve

ASIDE = "g900"
#: The projectors of a rebuild run this long, then stand still for so long, until the window was seen.
RUNS_S, STANDS_S, WINDOW_S = 0.02, 0.15, 2.0


@pytest.fixture(scope="module")
def server(log_backend: LogBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with Serve(tmp_path_factory.mktemp("rebuild"), ANNALS_STARTING_WAIT_S="0", **log_backend.environment()) as serve:
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


def test_a_lost_generation_is_folded_again_at_start(server: Serve, traffic: Traffic, before: dict[str, Any]) -> None:
    config = server.config
    with opened_tables(config) as database:
        assert database is not None
        _execute(database.url, f"ALTER SCHEMA g1 RENAME TO {ASIDE}")
    decided = _decisions(config)

    watch = _Watch(traffic.ann)
    # What is looked at is a long start, and a forked one is short.
    server.alone = True
    with _slowed_projectors(server), watch:
        server.start()
        watch.until_served()
    # Nobody is told that what is on the log is not there; until it is served again it is "not now" (0: no answer).
    assert set(watch.statuses) - {0} == {503, 200}, watch.statuses
    assert watch.statuses.count(503) > 3, watch.statuses
    assert 503 not in watch.statuses[watch.statuses.index(200) :]

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
    assert_rebuild_equal(config)


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


class _Watch:
    """A logged-in client that calls all the time."""

    def __init__(self, who: Client) -> None:
        self._client = Client(who.port, who.user_id, who.token)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def statuses(self) -> list[int]:
        return self._client.seen

    def until_served(self, timeout_s: float = 60.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while 200 not in self.statuses:
            assert time.monotonic() < deadline_s, self.statuses[-20:]
            time.sleep(0.02)

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                self._client.call("GET", "/account/whoami")
            time.sleep(0.02)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@contextlib.contextmanager
def _slowed_projectors(server: Serve) -> Iterator[None]:
    """From its start on the process `projectors` runs in small bits, for WINDOW_S after the api is up."""
    over = threading.Event()

    def slow() -> None:
        pid = None
        while pid is None and not over.wait(0.005):
            with contextlib.suppress(AssertionError, OSError):
                pid = server.children().get("projectors")
        if pid is None:
            return
        since_s: float | None = None
        while not over.is_set() and (since_s is None or time.monotonic() - since_s < WINDOW_S):
            if since_s is None and server.healthy():
                since_s = time.monotonic()
            os.kill(pid, signal.SIGSTOP)
            over.wait(STANDS_S)
            os.kill(pid, signal.SIGCONT)
            over.wait(RUNS_S)

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
