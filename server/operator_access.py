"""Log and tables for a command of an operator, whether or not the server runs.

The embedded log is read and appended to by any number of processes. The embedded PostgreSQL is used where a server has
started it, and started for the time of the command where none has.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg2

from annals.audit.errors import GenerationInUse, NotOfThisRoom
from annals.audit.operating import Operating, operating
from annals.database.connection import connect
from annals.database.errors import ConnectionLost, DatabaseError
from annals.database.pool import Database
from annals.eventlog.api import Log
from annals.eventlog.errors import LogError
from annals.projectors.errors import ProjectorError, ReplayStopped
from annals.server.clock import now_ms
from annals.server.config import Config, ConfigError, Logging
from annals.server.embedded_postgres import AlreadyRunning, EmbeddedPostgres
from annals.server.log_setup import first_genesis, open_log
from annals.server.parent_death import before_exec
from annals.server.postgres_binaries import PostgresUnavailable
from annals.server.telemetry import configure_logging
from annals.server.version import VERSION

_STARTING_S = 20.0

#: What a command answers with a line and exit status 1.
FAILURES = (
    DatabaseError,
    GenerationInUse,
    LogError,
    NotOfThisRoom,
    PostgresUnavailable,
    ProjectorError,
    ReplayStopped,
    psycopg2.Error,
)


@contextmanager
def opened_log(config: Config) -> Iterator[Log]:
    """The log that is there. ConfigError where there is none, or that of another server."""
    if config.log_backend == "embedded" and not config.log_dir.is_dir():
        raise ConfigError(f"data_dir: there is no log in {config.log_dir.absolute()}")
    log = open_log(config)
    try:
        genesis = first_genesis(log)
        if genesis is None or genesis.server_name != config.server_name:
            owner = genesis.server_name if genesis else "nobody"
            raise ConfigError(f"server_name: the log in use is that of {owner}, not of {config.server_name}")
        yield log
    finally:
        log.close()


@contextmanager
def opened_tables(config: Config, *, start: bool = True) -> Iterator[Database | None]:
    """The tables. With `start` false, None where only a PostgreSQL of our own would answer, and none runs."""
    if config.database_url is not None:
        with _database(config.database_url.get_secret_value()) as database:
            yield database
        return
    postgres = EmbeddedPostgres(
        config.data_dir / "postgres", settings=config.postgres_settings, before_exec=before_exec(signal.SIGINT)
    )
    try:
        url = _url_of(postgres, start=start)
        if url is None:
            yield None
            return
        with _database(url) as database:
            yield database
    finally:
        postgres.stop()


def _url_of(postgres: EmbeddedPostgres, *, start: bool) -> str | None:
    try:
        if start:
            return postgres.start()
        if postgres.is_free():
            return None
    except AlreadyRunning:
        pass
    url = postgres.url()
    _wait_for(url)
    return url


def _wait_for(url: str) -> None:
    """Somebody else runs it, and may be starting it at this moment."""
    deadline_s = time.monotonic() + _STARTING_S
    while True:
        try:
            connect(url, purpose="operator").close()
            return
        except ConnectionLost:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)


@contextmanager
def _database(url: str) -> Iterator[Database]:
    # No time limit: to compare two generations takes what it takes.
    database = Database(url, threads=1, statement_timeout_ms=0)
    try:
        yield database
    finally:
        database.close()


def command_on(log: Log) -> Operating:
    """A command of an operator on this log."""
    return operating(log, now_ms, VERSION)


def said(run: Callable[[], int], complain: Callable[[str], None]) -> int:
    """The exit status of a command; what it cannot do is said in a line, with status 1.

    Standard output is the command's: log lines go to stderr, and only those that matter to an operator.
    """
    configure_logging(Logging(level="warning"), "operator")
    try:
        return run()
    except FAILURES as error:
        for line in str(error).splitlines() or [repr(error)]:
            complain(f"annals: {line}")
        return 1
