"""Fillers on every topic: no reader takes one for a fact or for a deleted key, and none stands still at one."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from annals.audit.operating import operating
from annals.audit.room_log import room_log
from annals.audit.room_resume import resume_room, wait_for_step
from annals.database.migrate import migrate
from annals.eventlog.api import Log, Record
from annals.eventlog.embedded import open_embedded
from annals.eventlog.filler import FILLER_KEY, filler, is_filler
from annals.eventlog.partition import partition_of
from annals.projectors.groups import GROUPS
from annals.projectors.plain_worker import PlainWorker
from annals.projectors.work import Position
from annals.schemas.records import erased_subject_key
from annals.schemas.topics import TOPICS, decisions_topic
from annals.server import keys
from annals.server.config import Config
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer
from tests.support.rebuild_check import assert_generations_equal
from tests.support.server import SERVER_NAME, bodies, live_server, quoted
from tests.support.waiting import until

SPECS = [*TOPICS.values(), decisions_topic("g1")]


def fill(log: Log, count: int = 3) -> None:
    """Fillers at the end of each partition of each topic."""
    for spec in SPECS:
        for partition in range(spec.partitions):
            log.append([filler(spec.name, partition)] * count).result()


def test_a_filler_is_told_from_what_deletes_a_key_and_from_facts() -> None:
    assert is_filler(Record("receipts", 0, 7, FILLER_KEY, None))
    erased = erased_subject_key("@ann:test", "1")
    assert not is_filler(Record("subject_keys", 0, 7, erased.record_key, erased.value))
    assert not is_filler(Record("rooms", 0, 7, FILLER_KEY, b""))


@pytest.mark.parametrize("group", [name for name, group in GROUPS.items() if group.projection is not None])
def test_no_fold_sees_a_filler(group: str) -> None:
    worker = PlainWorker(GROUPS[group], 0, 1, Position(0, 0, 0, None), set())
    records = [Record(GROUPS[group].topic, 0, offset, FILLER_KEY, None) for offset in range(3)]
    work = worker.prepare(records).work({}, lambda: False)
    # It asks for no rows: a fold that looked at the key would, or fail.
    with pytest.raises(StopIteration) as ended:
        next(work)
    applied = ended.value.value
    assert (applied.stopped, applied.position.next_offset) == (None, 3)
    assert not list(applied.rows.tables())


def test_a_server_over_a_log_with_fillers_everywhere(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.fresh_database("fillers")
    migrate(url)
    keys.prepare(Config(server_name=SERVER_NAME, data_dir=tmp_path))
    with closing(open_embedded(tmp_path / "log")) as log:
        log.ensure_topics(SPECS)
        fill(log)
        with live_server(url, tmp_path) as server:
            ann, bob = server.user("ann"), server.user("bob")
            fill(log)
            room_id = ann.create_room(preset="public_chat")
            bob.join(room_id)
            since = ann.sync()["next_batch"]
            for number in range(3):
                fill(log, 1)
                event_id = bob.say(room_id, f"number {number}")
                ann.do("POST", f"/rooms/{quoted(room_id)}/receipt/m.read/{quoted(event_id)}", {})
                ann.do("PUT", f"/rooms/{quoted(room_id)}/typing/{quoted(ann.id)}", {"typing": True, "timeout": 120_000})
            joined = ann.sync(since)["rooms"]["join"][room_id]
            assert bodies(joined["timeline"]["events"]) == [f"number {number}" for number in range(3)]
            assert "m.receipt" in {event["type"] for event in joined["ephemeral"]["events"]}

            def typing() -> bool:
                return f'["{ann.id}"]' in json.dumps(bob.sync()["rooms"]["join"][room_id]["ephemeral"])

            until(typing, "typing is followed over fillers")
            _audit(log, room_id)
        with live_server(url, tmp_path) as server:  # it reads what was decided, and goes on
            fill(log, 1)
            status, _ = server.call("GET", f"/rooms/{quoted(room_id)}/state", None, ann.token)
            assert status == 200
        assert_generations_equal(log, url, SERVER_NAME)
    postgres.drop_database(url)


def _audit(log: Log, room_id: str) -> None:
    kinds = [line.kind for line in room_log(log, room_id, "g1")]
    assert kinds.count("decision") == kinds.count("fact") > 8
    partition = partition_of(room_id, log.partitions("rooms"))
    decided = log.end("decisions.g1", partition)
    fill(log, 1)
    partition, offset = resume_room(operating(log, lambda: 1, "1"), room_id, (), "olga", "a test")
    step = wait_for_step(log, "g1", partition, offset, decided, PATIENCE_S)
    assert step is not None
    assert step.offset == offset
