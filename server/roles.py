"""The composition root: what each of the three processes is made of. Everything is wired here and nowhere else."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog
import uvloop
from starlette.applications import Starlette

from annals.server.config import Config, ConfigError
from annals.server.http import serve
from annals.server.operational import operational_routes
from annals.server.telemetry import configure_logging

# A thread that computes keeps the others waiting for one interval; the default of 5 ms is our whole budget.
SWITCH_INTERVAL_S = 0.0005

log = structlog.get_logger(__name__)


def run_api(config: Config) -> None:
    """HTTP for clients, servers and operators, until SIGTERM."""
    _begin(config, "api")
    uvloop.run(_api(config))


def run_projectors(config: Config) -> None:
    """Fold the log into tables, until SIGTERM."""
    _begin(config, "projectors")
    uvloop.run(_until_stopped())


def run_remote(config: Config) -> None:
    """Talk to other servers and resume commands over several keys, until SIGTERM."""
    _begin(config, "remote")
    uvloop.run(_until_stopped())


def database_url(config: Config) -> str:
    """The URL of PostgreSQL: an operator's own, or the one that `annals serve` started."""
    if config.database_url is None:
        raise ConfigError("database_url: not set; `annals serve` starts a PostgreSQL, a role alone does not")
    return config.database_url.get_secret_value()


def _begin(config: Config, role: str) -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    configure_logging(config.logging, role)
    database_url(config)
    log.info("starting", server_name=config.server_name)


async def _api(config: Config) -> None:
    async def readiness() -> str | None:
        return None

    await serve(Starlette(routes=operational_routes(config, readiness)), config)


async def _until_stopped() -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
