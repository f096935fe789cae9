"""annals config: is the configuration right, and what does it come to?"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from annals.server.cli import Commands
    from annals.server.config import Config


def register(commands: Commands) -> None:
    commands.add("config check", "check file and environment; says every fault, starts nothing", _check)
    commands.add("config plan", "make folders and keys, and print what `annals serve` needs (JSON)", _plan, hidden=True)


def _check(arguments: argparse.Namespace) -> int:
    from annals.server.config import load

    config = load(arguments.config)
    for listener in config.client_listeners:
        print(f"http   {listener.address} port {listener.port}")
    if config.federation_listener is not None:
        print(f"https  {config.federation_listener.address} port {config.federation_listener.port}")
    if config.log_backend == "kafka":
        _check_kafka(config)
    print(f"{config.server_name}: the configuration is sound; data in {config.data_dir.absolute()}")
    return 0


def _check_kafka(config: Config) -> None:
    from annals.server.config import kafka_settings
    from annals.server.kafka_reach import check_properties

    settings = kafka_settings(config)
    check_properties(settings)
    print(f"kafka  {settings.bootstrap} namespace {settings.namespace}")
    if config.database_url is None:
        print("no database_url: `annals serve` starts a PostgreSQL of its own, on this machine only")


def _plan(arguments: argparse.Namespace) -> int:
    from annals.server.config import load
    from annals.server.keys import prepare

    config = load(arguments.config)
    prepare(config)
    plan = {
        "data_dir": str(config.data_dir.absolute()),
        "database_url": None if config.database_url is None else "set",
        "postgres_settings": dict(config.postgres_settings),
        "log_format": config.logging.format,
    }
    print(json.dumps(plan))
    return 0
