"""The three processes of a server. Everything is wired in server/ and nowhere else."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvloop

from annals.server.config import Config, ConfigError, database_url
from annals.server.parent_death import PARENT_VARIABLE
from annals.server.telemetry import configure_logging, serve_metrics

if TYPE_CHECKING:
    from annals.eventlog.api import Log

# A thread that computes keeps the others waiting for one interval; the default of 5 ms is our whole budget.
SWITCH_INTERVAL_S = 0.0005

log = structlog.get_logger(__name__)


def run_api(config: Config) -> None:
    """HTTP for clients, servers and operators, until SIGTERM."""
    _begin(config, "api")
    from annals.projectors.interpreter import set_for_serving
    from annals.server import api_role

    with _operator_has_to_act(), set_for_serving():
        uvloop.run(api_role.run(config))


def run_projectors(config: Config, generation: str | None = None, config_path: Path | None = None) -> None:
    """Fold the log into tables, until SIGTERM: those of the generation that serves, and beside it, in processes of
    their own, those of all that are followed. With `generation`, of that one alone."""
    _begin(config, "projectors")
    from annals.database.pool import Database
    from annals.server.log_setup import begin_log, open_log

    stop, unwanted = threading.Event(), threading.Event()

    def end() -> None:
        stop.set()
        unwanted.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end())
    eventlog = open_log(config)
    begin_log(eventlog, config.server_name)
    url = database_url(config)
    if generation is not None:
        _prepare(url, generation)
        _project(eventlog, url, generation, config.server_name, stop)
        return
    database = Database(url, threads=1)
    generation = database.read_now(lambda snapshot: snapshot.generation)
    database.close()
    from annals.server.followers import Followers

    followers = Followers(url, generation, config_path, unwanted.set)
    followers.start()
    try:
        _project(eventlog, url, generation, config.server_name, unwanted)
        # Another generation serves, and this one is followed no more: the children go on.
        stop.wait()
    finally:
        followers.close()


def _prepare(url: str, generation: str) -> None:
    """The tables of the generation that serves were migrated before we began; those of another one were not."""
    from annals.database.migrate import create_generation, generations

    if generation not in generations(url):
        raise ConfigError(f"--generation: there are no tables of {generation}")
    create_generation(url, generation)


def _project(eventlog: Log, url: str, generation: str, server_name: str, stop: threading.Event) -> None:
    from annals.projectors.runner import run

    try:
        with _operator_has_to_act():
            run(eventlog, url, generation, server_name, stop)
    finally:
        eventlog.close()


def run_remote(config: Config) -> None:
    """Talk to other servers and resume commands over several keys, until SIGTERM."""
    _begin(config, "remote")
    from annals.projectors.interpreter import set_for_serving
    from annals.server import remote_role

    with _operator_has_to_act(), set_for_serving():
        uvloop.run(remote_role.run(config))


@contextmanager
def _operator_has_to_act() -> Iterator[None]:
    """What no restart mends ends the process as a fault of the configuration does: with the reason, and for good."""
    from annals.projectors.errors import LogWentBack, NewerDecideVersion

    try:
        yield
    except (LogWentBack, NewerDecideVersion) as error:
        log.critical("stopped", why=str(error))
        raise ConfigError(str(error)) from error


def _begin(config: Config, role: str) -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # Each long poll holds a connection: as many as the machine lets us have.
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    configure_logging(config.logging, role)
    database_url(config)
    if role != "api" and PARENT_VARIABLE not in os.environ:  # under a supervisor the `api` process shows all
        serve_metrics(config.metrics)
    log.info("starting", server_name=config.server_name)
