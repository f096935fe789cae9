"""annals serve, run, migrate: the processes of a server."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from annals.server.cli import Commands

ROLES = ("api", "projectors", "remote")


def register(commands: Commands) -> None:
    commands.add("serve", "run a whole server on this machine, PostgreSQL included unless DATABASE_URL is set", _serve)
    run = commands.add(
        "run",
        "run one process of a server (DATABASE_URL must be set; on Kafka, any number of each)",
        _run,
    )
    run.add_argument("role", choices=ROLES)
    run.add_argument(
        "--generation", metavar="gN", help="projectors: this generation alone (else what serves, and what is followed)"
    )
    commands.add("migrate", "bring the tables of DATABASE_URL to this release's form", _migrate)


def _serve(arguments: argparse.Namespace) -> int:
    from annals.server.supervisor import serve

    return serve(arguments.config)


def _run(arguments: argparse.Namespace) -> int:
    _end_with_supervisor()
    from annals.eventlog.errors import LogUnavailable
    from annals.server import roles
    from annals.server.config import load

    try:
        config = load(arguments.config)
        if arguments.role == "projectors":
            roles.run_projectors(config, arguments.generation, arguments.config)
        else:
            {"api": roles.run_api, "remote": roles.run_remote}[arguments.role](config)
    except LogUnavailable as error:
        print(f"annals: {error}", file=sys.stderr)
        return 1
    return 0


def _migrate(arguments: argparse.Namespace) -> int:
    _end_with_supervisor()
    from annals.database.errors import DatabaseError
    from annals.database.migrate import migrate
    from annals.server.config import database_url, load
    from annals.server.telemetry import configure_logging

    config = load(arguments.config)
    configure_logging(config.logging, "migrate")
    try:
        migrate(database_url(config))
    except DatabaseError as error:
        print(f"annals: {error}", file=sys.stderr)
        return 1
    return 0


def _end_with_supervisor() -> None:
    from annals.server.parent_death import PARENT_VARIABLE, end_with_parent

    if parent := os.environ.get(PARENT_VARIABLE):
        end_with_parent(int(parent), signal.SIGTERM)
