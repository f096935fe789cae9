"""`python -m tests.migrations.record`: writes tests/migrations/recorded/ anew, for the heads of today's chains.

What projectors of a release wrote at its revisions, and the log that they followed: the tests migrate these rows as a
server's are. What is there for older revisions is kept. It needs doing when a chain begins anew, or to have rows for
tables that came later.
"""

from __future__ import annotations

import base64
import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import structlog

from annals.database.migrate import migrate
from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Append, Log
from annals.eventlog.embedded import open_embedded
from annals.eventlog.reading import records_between
from annals.matrix.events import Event
from annals.migrations import landed
from annals.projectors.rooms import batch as batch_module
from annals.rooms.heads import Intent
from annals.schemas.facts import users
from annals.schemas.facts.envelope import Sealed
from annals.schemas.facts.operations import AdminCommanded
from annals.schemas.facts.subject_keys import SubjectKeyMade
from annals.schemas.topics import TOPICS, decisions_topic
from annals.server.embedded_postgres import EmbeddedPostgres
from tests.support.projectors import append, connector, envelope, running, simple_facts
from tests.support.recorded_tables import rows_of, save_rows
from tests.support.room_traffic import RoomStory, numbered_room, traffic
from tests.support.rooms import created, received, user

RECORDED = Path(__file__).parent / "recorded"
TOPIC_SPECS = [*TOPICS.values(), decisions_topic("g1"), decisions_topic("g2")]
_OPS = """
    INSERT INTO ops.leases VALUES ('push', 'somebody', 1700000000000), ('media', 'another', 1700000000001);
    INSERT INTO ops.cursors VALUES ('egress', 'rooms/0:17'), ('push', '')
"""


def heads() -> dict[str, str]:
    """The last revision of each chain, by the chain's name."""
    return {chain.name: landed.read_chain(chain)[-1].revision for chain in landed.CHAINS}


def tables_file(chain: str, revision: str) -> Path:
    """Where the rows of a chain's tables at a revision are."""
    return RECORDED / f"{chain}-{revision}.copy"


def log_file(revision: str) -> Path:
    """Where the log is that the tables of a generation at a revision follow from."""
    return RECORDED / f"log-{revision}.jsonl"


def load_log(log: Log, path: Path) -> None:
    """Append the records of a file to an empty log: they stand where they stood."""
    log.ensure_topics(TOPIC_SPECS)
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    offsets = log.append([Append(r["topic"], r["partition"], _bytes(r["key"]), _value(r["value"])) for r in records])
    assert offsets.result() == [r["offset"] for r in records]


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _value(text: str | None) -> bytes | None:
    return None if text is None else _bytes(text)


def _lines(log: Log) -> Iterator[str]:
    for spec in TOPIC_SPECS:
        for partition in range(log.partitions(spec.name)):
            for record in records_between(log, spec.name, partition, 0):
                value = None if record.value is None else base64.b64encode(record.value).decode()
                key = base64.b64encode(record.key).decode()
                at = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
                yield json.dumps({**at, "key": key, "value": value}) + "\n"


def record(log: Log, url: str) -> None:
    """Let projectors write about everything that they write, and save it."""
    migrate(url)
    stories, facts = traffic(random.Random(6), rooms=4, length=14)
    log.ensure_topics(TOPIC_SPECS)
    more = [*simple_facts(random.Random(7), 60), *_rare()]
    with _failing_in(stories[0]), running(log, connector(url)) as loop:
        append(log, [*facts, *more])
        loop.catch_up()
        assert not loop.stopped
    connection = WriteConnection(url)
    connection.execute(_OPS)
    connection.close()
    RECORDED.mkdir(exist_ok=True)
    for chain, revision in heads().items():
        schema = "ops" if chain == "ops" else "g1"
        assert all(rows_of(url, schema).values()), {table for table, rows in rows_of(url, schema).items() if not rows}
        save_rows(url, schema, tables_file(chain, revision))
    log_file(heads()["generation"]).write_text("".join(_lines(log)), "utf-8")


def _rare() -> list[Any]:
    """What the traffic has by luck only."""
    user_id, of, driver = "@dan:test", envelope(), numbered_room("11", 9)
    facts: list[Any] = list(driver.tables.facts.values())
    rules = driver.view.known_header().rules
    assert rules

    def build(kind: str, **content: str) -> Event:
        return driver.build(Intent(user("alice"), kind, dict(content)), rules, now_ms=len(facts))

    # Of what nobody has sent: a redaction, and the event before another.
    facts.append(created(build("m.room.redaction", redacts="$nobody-has-it")))
    lost = build("m.room.message", body="lost")
    driver.feed(received(lost))
    facts.append(received(build("m.room.message", body="found")))
    return [
        *facts,
        users.AccountRegistered(of, user_id, Sealed("k", b"n", b"\x00\xff"), False, None),
        users.ProfileFieldSet(of, user_id, "displayname", b'"Dan"'),
        users.CommandStarted(of, user_id, "c", "fan_out", b"{}"),
        SubjectKeyMade(of, user_id, "k", b"nonce", b"\x00wrapped"),
        AdminCommanded(of, "op", "reset", b"{}", "asked"),
    ]


@contextmanager
def _failing_in(story: RoomStory) -> Iterator[None]:
    """The room of this story halts some way into it."""
    last = [fact for fact in story.facts if getattr(fact, "event_id", None)][-3]
    real = getattr(batch_module, "decide")  # noqa: B009 (it is imported there, not exported)

    def decide(view: Any, fact: Any, offset: int, epoch: int) -> Any:
        if getattr(fact, "event_id", None) == getattr(last, "event_id", ""):
            raise RuntimeError("a fault")
        return real(view, fact, offset, epoch)

    with mock.patch.object(batch_module, "decide", decide):
        yield


def main() -> None:
    """Record in a PostgreSQL and a log that are made for it."""
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    with tempfile.TemporaryDirectory(prefix="annals-record-", ignore_cleanup_errors=True) as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        log = open_embedded(Path(folder) / "log")
        try:
            record(log, postgres.start())
        finally:
            log.close()
            postgres.stop()


if __name__ == "__main__":
    main()
