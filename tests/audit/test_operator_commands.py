"""The operator's commands, on a server that runs and on one that does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from annals.audit import generations
from annals.audit.generations import live_owner
from annals.database.pool import Database
from annals.projectors.rebuild import Mode, Progress, replay
from annals.schemas.codec import decode
from annals.server.cli import main
from annals.server.embedded_postgres import EmbeddedPostgres
from annals.server.operator_access import opened_log
from tests.support.backends import LogBackend
from tests.support.matrix_client import Client, register
from tests.support.operators import REASON, wait_patiently
from tests.support.servers import Serve, about_data
from tests.support.soak import only_in_soak

# What a command says and refuses does not hang on the log that it reads.
on_either = pytest.mark.parametrize("log_backend", ["embedded", only_in_soak("kafka")], indirect=True)


@pytest.fixture(scope="module")
def server(log_backend: LogBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with Serve(tmp_path_factory.mktemp("audit"), **log_backend.environment()) as serve:
        serve.start()
        yield serve


@pytest.fixture(scope="module")
def ann(server: Serve) -> Client:
    return register(server.port, "ann")


@pytest.fixture(scope="module")
def room_id(ann: Client) -> str:
    room_id = ann.create_room(room_version="12", preset="private_chat", name="\x1b[31mred")
    said = ann.say(room_id, "hello")
    ann.redact(room_id, said)
    return room_id


@pytest.fixture
def annals(server: Serve, no_settings: None, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Run a command on the server's data; (status, lines, complaints)."""
    for name, value in about_data(server.environment).items():
        monkeypatch.setenv(name, value)
    wait_patiently(monkeypatch)

    def run(*words: str) -> tuple[int, list[str], str]:
        capsys.readouterr()
        status = main(list(words))
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    return run


def facts_of(server: Serve, topic: str, kind: str) -> list[Any]:
    with opened_log(server.config) as log:
        facts = [decode(r.value) for p in range(log.partitions(topic)) for r in log.read(topic, p, 0) if r.value]
    return [fact for fact in facts if type(fact).__name__ == kind]


# -- log show


def test_log_show_is_a_room_s_story_in_order(annals: Any, ann: Client, room_id: str) -> None:
    status, lines, _ = annals("log", "show", room_id)
    assert status == 0
    facts = [line for line in lines if line.startswith("fact ")]
    types = [line.split("  ")[-2].split(" by ")[0].strip() for line in facts]
    assert types[:2] == ["m.room.create []", f"m.room.member [{ann.user_id}]"]
    assert types[-2:] == ["m.room.message", "m.room.redaction"]
    # Each fact is followed by what was decided about it; the redaction says what it redacts.
    assert len(lines) == 2 * len(facts)
    assert all(line.startswith("  decision") and "  accepted  " in line for line in lines[1::2])
    message = facts[-2].split()[-1]
    assert lines[-1].endswith(f"redacts {message}")


@on_either
def test_log_show_lines_are_aligned(annals: Any, room_id: str) -> None:
    _, lines, _ = annals("log", "show", room_id)
    assert len({(line[:10].strip(), line[10:12]) for line in lines}) == 2
    assert {line[22:24] for line in lines} == {"  "}


@on_either
def test_log_show_json_has_all_of_it(annals: Any, room_id: str) -> None:
    _, lines, _ = annals("log", "show", room_id, "--json")
    made = [json.loads(line) for line in lines]
    assert {entry["kind"] for entry in made} == {"fact", "decision"}
    assert {entry["room_id"] for entry in made} == {room_id}
    create = made[0]
    assert json.loads(create["skeleton"])["type"] == "m.room.create"
    assert create["envelope"]["idempotency_key"]


@on_either
def test_what_a_user_wrote_does_not_reach_the_terminal(annals: Any, ann: Client) -> None:
    room_id = ann.create_room()
    ann.set_state(room_id, "org.example.\x1b[2J", {})
    _, lines, _ = annals("log", "show", room_id)
    assert "\x1b" not in "".join(lines)
    assert any("org.example.\\x1b[2J" in line for line in lines)


@on_either
def test_log_show_of_an_unknown_room(annals: Any) -> None:
    status, lines, complaint = annals("log", "show", "!nobody:localhost")
    assert (status, lines) == (1, [])
    assert "no facts of !nobody:localhost" in complaint


@on_either
@pytest.mark.parametrize("name", ["g77", "public; DROP"])
def test_log_show_of_an_unknown_generation(annals: Any, room_id: str, name: str) -> None:
    status, lines, complaint = annals("log", "show", room_id, "--generation", name)
    assert (status, lines) == (1, [])
    assert complaint.startswith("annals: ")


@on_either
def test_a_folder_without_a_log_stays_as_it_is(annals: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNALS_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("ANNALS_LOG", raising=False)
    for words in (("log", "show", "!x"), ("generations",), ("room", "resume", "!x", *REASON)):
        status, _, complaint = annals(*words)
        assert status == 78
        assert "there is no log in" in complaint
    assert list(tmp_path.iterdir()) == []


@on_either
def test_the_log_of_another_server_is_refused(annals: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNALS_SERVER_NAME", "other.example")
    status, _, complaint = annals("log", "show", "!x")
    assert status == 78
    assert "the log in use is that of localhost" in complaint


# -- generations, replay, diff


def generation(annals: Any, name: str) -> dict[str, Any]:
    _, lines, _ = annals("generations", "--json")
    listed: dict[str, dict[str, Any]] = {made["name"]: made for made in map(json.loads, lines)}
    return listed[name]


def test_generations_say_who_serves(annals: Any, room_id: str) -> None:
    assert room_id
    status, lines, _ = annals("generations")
    assert status == 0
    assert lines[0].split()[:5] == ["g1", "serve", "serves", "lag", "0"]
    serving = generation(annals, "g1")
    assert (serving["serves"], serving["lag"]) == (True, 0)
    assert serving["owner"].startswith("projectors-")
    topics = [topic for topic, _, _ in serving["positions"]]
    assert (topics.count("rooms"), topics.count("operations")) == (8, 1)


def test_replay_beside_a_running_server_and_diff(annals: Any, server: Serve, room_id: str) -> None:
    assert room_id
    for name, mode in (("g2", "fold"), ("g3", "recompute")):
        status, lines, complaint = annals("replay", "--into", name, "--mode", mode)
        assert (status, complaint) == (0, "")
        assert lines[0].startswith(f"{name} holds ")
        status, lines, complaint = annals("diff", "--rows", "g1", name)
        assert (status, complaint) == (0, "")
        assert {line.split()[-1] for line in lines} == {"equal"}
        made = generation(annals, name)
        assert (made["mode"], made["serves"], made["owner"]) == (mode, False, None)
    # Processes that start at once on a new log may each say that g1 is made; the first one counts.
    created = dict.fromkeys((f.generation, f.mode) for f in facts_of(server, "operations", "GenerationCreated"))
    assert list(created) == [("g1", "serve"), ("g2", "fold"), ("g3", "recompute")]
    # g2 was compared before g3 was made: a diff brings both to the end of the log first.
    assert annals("diff", "--rows", "g2", "g3")[0] == 0


def test_diff_shows_what_differs(annals: Any, server: Serve, room_id: str) -> None:
    execute(
        server,
        "g2",
        "UPDATE current_state SET event_id = '$other' WHERE room_id = %s AND type = 'm.room.name'",
        room_id,
    )
    execute(server, "g2", "DELETE FROM receipts")
    status, lines, complaint = annals("diff", "--rows", "g1", "g2")
    assert status == 1
    assert "g1 and g2 differ in current_state" in complaint
    at = next(index for index, line in enumerate(lines) if line.startswith("current_state "))
    assert lines[at].endswith("1 only in g1, 1 only in g2")
    assert lines[at + 1].startswith(f'    g1: ["{room_id}", "m.room.name"')
    assert lines[at + 2].startswith("    g2: ")
    assert '"$other"' in lines[at + 2]


@on_either
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("replay", "--into", "g1", "--mode", "recompute"), "g1 serves"),
        (("replay", "--into", "g1", "--mode", "fold"), "cannot be folded from its own decisions"),
        (("replay", "--into", "g2", "--mode", "recompute"), "g2 was begun by fold"),
        (("replay", "--into", "g4", "--mode", "recompute", "--from", "g1"), "takes no other generation's decisions"),
        (("replay", "--into", "g4", "--mode", "fold", "--from", "g40"), "there is no generation g40"),
        (("replay", "--into", "x4", "--mode", "recompute"), "not the name of a generation"),
        (("generation", "drop", "g1", "--yes"), "g1 serves"),
        (("generation", "drop", "g40", "--yes"), "there is no generation g40"),
        (("diff", "--rows", "g1", "g40"), "there is no generation g40"),
    ],
)
def test_what_is_refused_leaves_no_fact(annals: Any, server: Serve, words: tuple[str, ...], said: str) -> None:
    before = (
        len(facts_of(server, "operations", "GenerationCreated")),
        facts_of(server, "operations", "GenerationDropped"),
    )
    status, lines, complaint = annals(*words)
    assert (status, lines) == (1, [])
    assert said in complaint
    after = (
        len(facts_of(server, "operations", "GenerationCreated")),
        facts_of(server, "operations", "GenerationDropped"),
    )
    assert after == before


def _somebody_writes(server: Serve, name: str) -> psycopg2.extensions.connection:
    """A connection that its positions name."""
    connection = psycopg2.connect(url_of(server))
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {name}.positions SET owner = 'somebody', pid = a.pid, backend_start = a.backend_start::text"
            " FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()"
        )
    connection.commit()
    return connection


@on_either
def test_a_generation_that_somebody_writes_is_left_alone(
    annals: Any, server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "OWNER_GONE_S", 0.2)
    connection = _somebody_writes(server, "g3")
    try:
        for words in (("replay", "--into", "g3", "--mode", "recompute"), ("generation", "drop", "g3", "--yes")):
            status, _, complaint = annals(*words)
            assert (status, complaint) == (1, "annals: g3 is being written by somebody\n")
    finally:
        connection.close()


@on_either
def test_a_writer_that_was_killed_is_seen_for_a_moment_and_waited_for(annals: Any, server: Serve) -> None:
    connection = _somebody_writes(server, "g3")
    looked: list[str | None] = []

    def look(database: Database, name: str) -> str | None:
        looked.append(live_owner(database, name))
        # The database notices it now.
        connection.close()
        return looked[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generations, "live_owner", look)
        assert annals("replay", "--into", "g3", "--mode", "recompute")[0] == 0
    assert looked[0] == "somebody"


def test_drop_takes_the_tables_and_the_name(annals: Any, server: Serve) -> None:
    status, _, complaint = annals("generation", "drop", "g2")
    assert status == 2
    assert "--yes" in complaint
    assert annals("generation", "drop", "g2", "--yes", "--actor", "olga")[:2] == (0, ["g2 is dropped"])
    (dropped,) = facts_of(server, "operations", "GenerationDropped")
    assert (dropped.generation, dropped.actor) == ("g2", "olga")
    _, lines, _ = annals("generations")
    assert [line.split()[0] for line in lines] == ["g1", "g3"]
    status, _, complaint = annals("replay", "--into", "g2", "--mode", "fold")
    assert status == 1
    assert "g2 was dropped" in complaint
    # Once more does no harm, and is one fact.
    assert annals("generation", "drop", "g2", "--yes")[0] == 0
    assert len(facts_of(server, "operations", "GenerationDropped")) == 1


@pytest.mark.parametrize("mode", ["fold", "recompute"])
def test_a_replay_that_was_stopped_goes_on(annals: Any, server: Serve, mode: Mode) -> None:
    """As a kill would: at each progress report it is thrown away, and begun again."""

    class Stopped(Exception):
        pass

    name = {"fold": "g20", "recompute": "g21"}[mode]
    seen: list[int] = []

    def stop(progress: Progress) -> None:
        if progress.done not in seen:
            seen.append(progress.done)
            raise Stopped

    with opened_log(server.config) as log:
        for _ in range(50):
            try:
                source = "g1" if mode == "fold" else None
                replay(log, url_of(server), name, mode, "localhost", source_generation=source, on_progress=stop)
                break
            except Stopped:
                continue
    assert seen == sorted(seen)
    # A recompute of so little is one batch; a fold reports each partition that has decisions, and the end.
    assert len(seen) >= {"fold": 2, "recompute": 1}[mode]
    assert annals("replay", "--into", name, "--mode", mode)[0] == 0
    assert annals("diff", "--rows", "g1", name)[0] == 0


# -- rooms


@on_either
def test_no_room_stands_still(annals: Any) -> None:
    assert annals("rooms", "halted") == (0, ["no room stands still"], "")
    assert annals("rooms", "halted", "--json") == (0, [], "")


def test_to_resume_a_room_that_goes_on_changes_nothing(annals: Any, server: Serve, room_id: str) -> None:
    status, lines, complaint = annals("room", "resume", room_id, *REASON)
    assert status == 1
    assert lines[0].startswith("resumed by the fact at rooms[")
    assert f"{room_id} did not stand still" in complaint
    # Even so it is known who did what, and why.
    command = facts_of(server, "operations", "AdminCommanded")[-1]
    assert (command.actor, command.command, command.reason) == ("olga", "room resume", "a test")
    assert json.loads(command.arguments) == {"room_id": room_id, "skip": []}
    resumed = facts_of(server, "rooms", "RoomResumed")[-1]
    assert resumed.envelope.cause == command.envelope.idempotency_key


@on_either
def test_of_a_room_that_goes_on_nothing_is_left_out(annals: Any, server: Serve, room_id: str) -> None:
    # A recompute would leave it out, later, though the room has it.
    before = len(facts_of(server, "operations", "AdminCommanded"))
    status, _, complaint = annals("room", "resume", room_id, "--skip", "0", *REASON)
    assert status == 1
    assert f"{room_id} does not stand still" in complaint
    assert len(facts_of(server, "operations", "AdminCommanded")) == before


def test_without_a_server(annals: Any, server: Serve, room_id: str) -> None:
    """The last one: it stops the server."""
    server.stop()
    assert annals("log", "show", room_id)[0] == 0
    status, lines, _ = annals("room", "resume", room_id, *REASON)
    assert (status, lines[1:]) == (0, ["no server runs: it is decided when one does"])
    before = len(facts_of(server, "operations", "AdminCommanded"))
    status, _, complaint = annals("room", "resume", room_id, "--skip", "99999", *REASON)
    assert status == 1
    assert f"no fact of {room_id} at rooms[" in complaint
    assert len(facts_of(server, "operations", "AdminCommanded")) == before
    stopped = generation(annals, "g1")
    assert (stopped["owner"], stopped["lag"]) == (None, 2)
    assert annals("replay", "--into", "g5", "--mode", "fold")[0] == 0
    assert annals("diff", "--rows", "g1", "g5")[0] == 0
    assert generation(annals, "g1")["lag"] == 0
    # The PostgreSQL of a command ends with it.
    assert EmbeddedPostgres(server.directory / "data" / "postgres").is_free()


def url_of(server: Serve) -> str:
    return EmbeddedPostgres(server.directory / "data" / "postgres").url()


def execute(server: Serve, schema: str, statement: str, *parameters: str) -> None:
    connection = psycopg2.connect(url_of(server), options=f"-c search_path={schema}")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
    finally:
        connection.close()
