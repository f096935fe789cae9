"""A server that goes on with a copy of its log, by `annals log copy`: with its tables as they are, or without any."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from annals.audit.row_diff import compared_tables
from annals.database.migrate import migrate
from annals.database.pool import Database
from annals.eventlog.api import Log
from annals.eventlog.embedded import open_embedded
from annals.eventlog.filler import is_filler
from annals.eventlog.kafka import open_kafka
from tests.support import nursery
from tests.support.kafka_logs import patient
from tests.support.patience import PATIENT_KAFKA, PATIENT_KAFKA_SECTION
from tests.support.postgres import PostgresServer
from tests.support.rebuild_check import assert_generations_equal
from tests.support.server import SERVER_NAME, LiveServer, User, bodies, live_server, quoted
from tests.support.soak import only_in_soak
from tests.support.waiting import until

DAY_MS = 24 * 3_600_000

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Place:
    """Where the log is copied to: for the command line, for a server, and for who reads it."""

    to: str
    environment: dict[str, str]
    settings: dict[str, Any]
    open: Callable[[], Log]


@pytest.fixture(params=["embedded", "kafka"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "embedded":
        log_dir = tmp_path / "two" / "log"
        return Place(str(log_dir), {}, {}, lambda: open_embedded(log_dir))
    bootstrap = request.getfixturevalue("kafka").bootstrap
    namespace = request.getfixturevalue("kafka_namespace")
    return Place(
        "kafka",
        {"KAFKA_BOOTSTRAP": bootstrap, "ANNALS_KAFKA__NAMESPACE": namespace, **PATIENT_KAFKA},
        {
            "log_backend": "kafka",
            "kafka_bootstrap": bootstrap,
            "kafka": {"namespace": namespace, **PATIENT_KAFKA_SECTION},
        },
        lambda: open_kafka(patient(bootstrap, namespace)),
    )


to_kafka = pytest.mark.parametrize("place", [only_in_soak("embedded"), "kafka"], indirect=True)
to_files = pytest.mark.parametrize("place", ["embedded", only_in_soak("kafka")], indirect=True)


@dataclass(frozen=True)
class Told:
    """What clients were told before the move. `since`, `latest`: tokens of ann, `later`: her sync between the two."""

    ann: User
    bob: User
    room_id: str
    since: str
    latest: str
    later: dict[str, Any]
    said: str


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    made = postgres.fresh_database("copy")
    migrate(made)
    yield made
    postgres.drop_database(made)


def traffic(server: LiveServer) -> Told:
    """Two people talk, and read what the other said, over and over: of receipts the last ones count."""
    ann, bob = server.user("ann"), server.user("bob")
    room_id = ann.create_room(preset="public_chat", name="moves")
    bob.join(room_id)
    for number in range(5):
        read_receipt(bob, room_id, ann.say(room_id, f"early {number}"))
    since = ann.sync()["next_batch"]
    said = bob.say(room_id, "late", "the same id")
    for number in range(5):
        read_receipt(ann, room_id, bob.say(room_id, f"late {number}"))
    bob.do("PUT", f"/profile/{quoted(bob.id)}/displayname", {"displayname": "Bob, later"})
    later = ann.sync(since)
    return Told(ann, bob, room_id, since, later["next_batch"], later, said)


def read_receipt(user: User, room_id: str, event_id: str) -> None:
    user.do("POST", f"/rooms/{quoted(room_id)}/receipt/m.read/{quoted(event_id)}", {})


@contextmanager
def first_server(url: str, tmp_path: Path) -> Iterator[LiveServer]:
    """The server on the embedded log; what it need not keep is compacted away at its end."""
    with live_server(url, tmp_path / "one") as server:
        yield server
    with closing(open_embedded(tmp_path / "one" / "log")) as log:
        in_two_days_ms = time.time_ns() // 1_000_000 + 2 * DAY_MS
        assert log.compact("receipts", in_two_days_ms)


def second_server(url: str, tmp_path: Path, place: Place) -> Any:
    keys = tmp_path / "one" / "keys"
    files = {"master_key_file": keys / "master.key", "signing_key_file": keys / "signing.key"}
    return live_server(url, tmp_path / "two", **{**files, **place.settings})


def go_on(server: LiveServer, told: Told) -> None:
    """The clients talk to this server: nothing they know is lost, new or repeated."""
    ann, bob = replace(told.ann, server=server), replace(told.bob, server=server)
    again = ann.sync(told.since)
    assert ageless(again["rooms"]) == ageless(told.later["rooms"])
    assert again["next_batch"] == told.latest
    nothing = ann.sync(told.latest)
    assert not nothing.get("rooms")
    assert nothing["next_batch"] == told.latest
    # A retry of a request from before the move.
    assert bob.say(told.room_id, "late", "the same id") == told.said
    bob.say(told.room_id, "after the move")
    news = until(lambda: ann.sync(told.latest, timeout=20_000).get("rooms", {}))["join"][told.room_id]["timeline"]
    assert bodies(news["events"]) == ["after the move"]
    assert not news["limited"]


def ageless(value: Any) -> Any:
    """Events as they were shown, but for how long ago they were sent."""
    if isinstance(value, dict):
        return {key: ageless(inner) for key, inner in value.items() if key != "age"}
    return [ageless(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
def annals(no_settings: None, tmp_path: Path, place: Place) -> Any:
    """Run a command with the settings of the first server; (status, lines, complaints).

    In a process of its own: what the server logs meanwhile is not the command's. Nor is what the log's client says
    of a slow broker a complaint.
    """

    def run(*words: str) -> tuple[int, list[str], list[str]]:
        environment = {"ANNALS_DATA_DIR": str(tmp_path / "one"), "ANNALS_SERVER_NAME": SERVER_NAME}
        done = nursery.run(*words, environment={**os.environ, **environment, **place.environment})
        complaints = [line for line in done.stderr.splitlines() if line.startswith("annals: ")]
        return done.returncode, done.stdout.splitlines(), complaints

    return run


def rows(url: str, *, with_writer: bool) -> dict[str, list[Row]]:
    """All rows that a rebuild promises; with the transaction that wrote each, where asked."""
    with closing(Database(url, threads=1)) as database:
        return {
            table.name: sorted(
                database.read_now(
                    lambda s, t=table: s.rows(  # type: ignore[misc]
                        f"SELECT {'xmin::text, ' if with_writer else ''}"
                        + ", ".join(f'"{column.name}"' for column in t.columns)
                        + f' FROM "{t.name}"'
                    )
                ),
                key=repr,
            )
            for table in compared_tables()
        }


@to_kafka
def test_the_same_tables_go_on_with_the_copy(url: str, tmp_path: Path, place: Place, annals: Any) -> None:
    with first_server(url, tmp_path) as server:
        told = traffic(server)
    before = rows(url, with_writer=True)
    status, lines, complaints = annals("log", "copy", "--to", place.to)
    assert (status, complaints) == (0, [])
    assert "0 fillers" not in lines[0]
    assert "the copy is like its source" in lines[1]
    with second_server(url, tmp_path, place) as server:
        # Not a row was written to take the copy over.
        assert rows(url, with_writer=True) == before
        go_on(server, told)
    with closing(place.open()) as log:
        assert any(is_filler(r) for p in range(log.partitions("receipts")) for r in log.read("receipts", p, 0))
        assert_generations_equal(log, url, SERVER_NAME)
    # Whoever goes back to the old log is told so, and nothing is skipped.
    status, _, complaints = annals("log", "copy", "--to", place.to)
    assert status == 1
    assert "the copy is in use already" in complaints[0]


@to_files
def test_tables_are_made_anew_from_the_copy(
    url: str, postgres: PostgresServer, tmp_path: Path, place: Place, annals: Any
) -> None:
    with first_server(url, tmp_path) as server:
        told = traffic(server)
    assert annals("log", "copy", "--to", place.to)[::2] == (0, [])
    fresh = postgres.fresh_database("copied")
    migrate(fresh)
    with second_server(fresh, tmp_path, place) as server:
        assert rows(fresh, with_writer=False) == rows(url, with_writer=False)
        go_on(server, told)
    postgres.drop_database(fresh)


@to_files
def test_the_command_refuses_while_the_server_runs(url: str, tmp_path: Path, place: Place, annals: Any) -> None:
    with first_server(url, tmp_path) as server:
        ann = server.user("ann")
        room_id = ann.create_room(preset="public_chat")
        event_ids = [ann.say(room_id, text) for text in ("one", "two")]
        for event_id in event_ids:
            read_receipt(ann, room_id, event_id)
        status, lines, complaints = annals("log", "copy", "--to", place.to)
        assert (status, lines) == (1, [])
        assert complaints[0].startswith("annals: a server runs on this log")
    assert annals("log", "copy", "--to", place.to, "--no-verify")[::2] == (0, [])


@to_files
def test_the_command_says_what_is_no_log(tmp_path: Path, place: Place, annals: Any) -> None:
    assert annals("log", "copy", "--to", place.to)[::2] == (
        78,
        [f"annals: --from: there is no embedded log in {tmp_path / 'one' / 'log'}"],
    )
    assert not (tmp_path / "one").exists()
