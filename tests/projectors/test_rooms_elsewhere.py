"""Rooms of other servers in the tables: joins, gaps and invites, however the log is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from annals.audit.room_log import room_log
from annals.audit.row_diff import COMPARED
from annals.database.pool import Database
from annals.database.write_connection import WriteConnection
from annals.eventlog.embedded import EmbeddedLog, open_embedded
from annals.migrations.tables import all_tables
from annals.projectors.rebuild import replay
from annals.projectors.rooms.fold import users_moved
from annals.projectors.rooms.read import handshake_of, open_handshakes, preview_of, wanted_of
from annals.rooms import machine, trimming
from annals.schemas.facts.rooms import HandshakeStarted, RoomFact, RoomResumed, StateSetChunk, StateSetClosed
from annals.schemas.topics import TOPICS, decisions_topic
from tests.support.decisions import decisions_that_count
from tests.support.projectors import SERVER_NAME, append, connector, dump, empty, running
from tests.support.room_weaver import ALICE, MEMBER, VERSIONS, plain_room
from tests.support.rooms import Driver, envelope, received
from tests.support.rooms_elsewhere import (
    ERIN,
    FRANK,
    STRIPPED,
    failed,
    gap_facts,
    join_facts,
    outsider,
    pdus,
    started,
    story,
)
from tests.support.soak import only_in_soak


def _fill(log: Any, url: str, facts: list[RoomFact], **settings: Any) -> None:
    with running(log, connector(url), **settings) as loop:
        append(log, facts)
        loop.catch_up()
        assert not loop.stopped


@pytest.mark.parametrize("version", VERSIONS)
def test_tables_hold_what_the_machine_decides(log: EmbeddedLog, tables_url: str, version: str) -> None:
    room_id, facts = story(version)
    driver = Driver(room_id)
    driver.feed(*facts)
    assert {ended.outcome for ended in driver.tables.outcomes.values()} == {"failed", "completed", "attached"}
    _fill(log, tables_url, facts)
    tables = dump(tables_url)
    assert not tables["halted_rooms"]
    connection = WriteConnection(tables_url, "g1")
    verdicts = dict(connection.rows("SELECT event_id, verdict FROM events"))
    assert verdicts == {event_id: row["verdict"].verdict for event_id, row in driver.tables.events.items()}
    assert {e for (e,) in connection.rows("SELECT event_id FROM current_state")} == set(driver.tables.current.values())
    local = dict(connection.rows("SELECT user_id, membership FROM local_current_membership"))
    assert local == driver.tables.local
    sets = connection.rows("SELECT set_id, event_id FROM state_sets WHERE role = 'state'")
    assert set(sets) == {(name, event_id) for name, ids in driver.tables.sets.items() for event_id in ids}
    assert len(tables["queued_facts"]) == len(driver.tables.queued)
    connection.close()


@pytest.mark.parametrize("version", [only_in_soak("10"), "12"])
def test_every_way_of_batching_decides_alike(tables_url: str, tmp_path: Path, version: str) -> None:
    _, facts = story(version, 2)
    expected: object = None
    for number, (size, work_s) in enumerate(((1000, 9.0), (1, 9.0), (7, 9.0), (1000, 0.0))):
        empty(tables_url)
        log = open_embedded(tmp_path / f"log{number}")
        log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
        _fill(log, tables_url, facts, records_max=size, work_s_max=work_s)
        outcome = dump(tables_url), decisions_that_count(log)
        log.close()
        assert expected is None or outcome == expected, f"batches of {size}, {work_s} s"
        expected = outcome


def test_a_rebuild_comes_to_the_same(log: EmbeddedLog, tables_url: str) -> None:
    for seed, version in enumerate(VERSIONS):
        _fill(log, tables_url, story(version, seed)[1])
    lived = dump(tables_url)
    replay(log, tables_url, "g2", "fold", SERVER_NAME, source_generation="g1")
    assert dump(tables_url, "g2") == lived
    replay(log, tables_url, "g3", "recompute", SERVER_NAME)
    assert dump(tables_url, "g3") == lived
    compared = {table.name for table in all_tables().sorted_tables if table.info["rebuild"] in COMPARED}
    assert {"handshakes", "state_sets", "queued_facts", "room_previews"} <= compared


def test_who_takes_the_room_over_knows_what_the_join_follows(log: EmbeddedLog, tables_url: str) -> None:
    weaver = plain_room()
    below_it, last = (weaver.add(("m.room.message", ALICE, None, {"n": n})) for n in range(2))
    answer = join_facts(weaver)
    _fill(log, tables_url, [started(weaver.room_id), *answer.facts])
    known = {fact.event_id for fact in pdus(answer.facts)}
    _fill(log, tables_url, [received(last), *gap_facts(weaver, below_it, known=known).facts])
    connection = WriteConnection(tables_url, "g1")
    verdicts = connection.rows("SELECT verdict FROM events WHERE event_id = %s", (last.event_id,))
    extremities = connection.rows("SELECT event_id FROM forward_extremities")
    connection.close()
    assert (verdicts, extremities) == ([("accepted",)], [(answer.event.event_id,)])


def _joined(tables_url: str, directory: Path, facts: list[RoomFact], restarts: bool) -> tuple[object, list[str]]:
    """The tables and decisions after these facts in batches of five, and what was read of the tables."""
    empty(tables_url)
    log = open_embedded(directory)
    log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
    read: list[str] = []

    def connect() -> WriteConnection:
        return WriteConnection(tables_url, "g1", purpose="test projector", on_statement=read.append)

    parts = [facts[first : first + 5] for first in range(0, len(facts), 5)] if restarts else [facts]
    for part in parts:
        with running(log, connect, records_max=5) as loop:
            append(log, part)
            loop.catch_up()
    outcome = dump(tables_url), decisions_that_count(log)
    log.close()
    return outcome, read


def test_who_gathers_a_room_closes_it_from_memory(
    tables_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weaver = plain_room()
    for number in range(20):
        weaver.add((MEMBER, f"@m{number}:peer", f"@m{number}:peer", {"membership": "join"}))
    facts = [started(weaver.room_id), *join_facts(weaver).facts]
    # Of so many events a view forgets nearly all, as it does of ten thousand by default.
    monkeypatch.setattr(trimming, "EVENTS_KEPT", 4)
    kept, read = _joined(tables_url, tmp_path / "kept", facts, restarts=False)
    assert not [sql for sql in read if "e.membership, e.verdict" in sql]
    assert len([sql for sql in read if "JOIN state_sets" in sql]) == 1
    anew, read_anew = _joined(tables_url, tmp_path / "anew", facts, restarts=True)
    assert [sql for sql in read_anew if "e.membership, e.verdict" in sql]
    monkeypatch.setattr(trimming, "GLIMPSES_KEPT", 3)
    few, read_few = _joined(tables_url, tmp_path / "few", facts, restarts=False)
    assert [sql for sql in read_few if "e.membership, e.verdict" in sql]
    assert kept == anew == few


def test_what_others_read(log: EmbeddedLog, tables_url: str) -> None:
    weaver = plain_room()
    room_id = weaver.room_id
    invite = weaver.add((MEMBER, ALICE, FRANK, {"membership": "invite"}))
    parked = weaver.add(("m.room.message", ALICE, None, {}))
    database = Database(tables_url, threads=1)
    _fill(log, tables_url, [received(parked), outsider(invite, [STRIPPED]), started(room_id)])
    try:
        (opened,) = database.read_now(open_handshakes)
        assert (opened.handshake_id, opened.kind, opened.user_id) == ("h1", "join", ERIN)
        assert (opened.servers, opened.content, opened.outcome) == (("peer", "other"), {"displayname": "E"}, None)
        wanted = database.read_now(wanted_of)
        assert {(w.room_id, w.wanted_by) for w in wanted} == {(room_id, parked.event_id)}
        assert {w.kind for w in wanted} == {"prev", "auth"}
        preview = database.read_now(lambda snapshot: preview_of(snapshot, FRANK))[room_id]
        assert (preview.event_id, preview.membership) == (invite.event_id, "invite")
        assert preview.room_state == (STRIPPED,)
        _fill(log, tables_url, [failed(room_id)])
        ended = database.read_now(lambda snapshot: handshake_of(snapshot, room_id, "h1"))
        assert ended is not None
        assert (ended.outcome, ended.http_status, ended.errcode) == ("failed", 403, "M_FORBIDDEN")
        assert database.read_now(lambda snapshot: handshake_of(snapshot, room_id, "h9")) is None
        assert database.read_now(open_handshakes) == []
    finally:
        database.close()


def test_who_was_invited_is_told(log: EmbeddedLog, tables_url: str) -> None:
    """The notice of the batch names them, though nobody of theirs is in the room."""
    weaver = plain_room()
    invite = weaver.add((MEMBER, ALICE, FRANK, {"membership": "invite"}))
    driver = Driver(weaver.room_id)
    assert users_moved(driver.feed(outsider(invite))) == {FRANK}


def test_a_join_in_a_room_that_halts(tables_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are those of a room that never halted, but for where they come from."""
    room_id, facts = story("12", 4)
    apply_fact = machine.apply_fact
    resumed = RoomResumed(envelope(), room_id, "@admin:test", "fixed", ())
    outcomes = []
    for number, broken in enumerate((None, StateSetChunk, StateSetClosed, HandshakeStarted)):

        def failing(step: Any, fact: Any, source: int, broken: Any = broken) -> None:
            if broken is not None and isinstance(fact, broken):
                raise ValueError("a defect")
            apply_fact(step, fact, source)

        empty(tables_url)
        log = open_embedded(tmp_path / f"log{number}")
        log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
        with monkeypatch.context() as patch:
            patch.setattr(machine, "apply_fact", failing)
            _fill(log, tables_url, facts)
        assert bool(dump(tables_url)["waiting_facts"]) == (broken is not None)
        _fill(log, tables_url, [resumed])
        log.close()
        connection = WriteConnection(tables_url, "g1")
        outcomes.append([sorted(connection.rows(sql), key=str) for sql in _WITHOUT_POSITIONS])
        connection.close()
    assert outcomes[1:] == outcomes[:1] * 3


_WITHOUT_POSITIONS = (
    "SELECT handshake_id, kind, user_id, servers, content, outcome, errcode, reason, event_id, source FROM handshakes",
    "SELECT source FROM queued_facts",
    "SELECT source FROM waiting_facts",
    "SELECT set_id, role, event_id, source FROM state_sets",
    "SELECT user_id, event_id, room_state, source FROM room_previews",
    "SELECT user_id, event_id, membership, forgotten FROM local_current_membership",
    "SELECT event_id, verdict, outlier, reason, source FROM events",
    "SELECT type, state_key, event_id FROM current_state",
)


def test_an_operator_is_shown_it(log: EmbeddedLog, tables_url: str) -> None:
    room_id, facts = story("12")
    _fill(log, tables_url, facts)
    lines = list(room_log(log, room_id, "g1"))
    assert [line.what for line in lines if line.kind == "fact"] == [type(fact).__name__ for fact in facts]
    shown = {line.what for line in lines if line.kind == "decision"}
    assert {"HandshakeOpened", "HandshakeEnded", "Queued", "SetGathered", "RoomEntered", "MembershipTaken"} <= shown
    # The state that the join brought is not printed whole.
    assert max(len(line.detail) for line in lines if line.kind == "decision") < 2_000
