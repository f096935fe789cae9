"""annals log: make the log; what it holds, for people."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from annals.server.cli import Commands

_CHANGE_NOTHING = (
    "nothing was changed. Mend the topics with Kafka's own tools, or choose another kafka.namespace for a new log"
)


def register(commands: Commands) -> None:
    commands.add("log init", "make the log, its topics and the server's keys; check what is there already", _init)
    show = commands.add("log show", "a room's facts and what was decided about them, in order", _show)
    show.add_argument("room", metavar="ROOM", help="a room id")
    show.add_argument("--generation", default="g1", metavar="gN", help="whose decisions (g1)")
    show.add_argument("--json", action="store_true", help="one JSON object a line, with all that is recorded")


def _init(arguments: argparse.Namespace) -> int:
    from contextlib import closing

    from annals.eventlog.errors import TopicsDiffer
    from annals.server.config import load
    from annals.server.keys import prepare
    from annals.server.log_setup import begin_log, first_genesis, init_log, log_topics
    from annals.server.operator_access import said

    def init() -> int:
        config = load(arguments.config)
        if config.log_backend == "embedded":
            prepare(config)
        try:
            made = init_log(config)
        except TopicsDiffer as error:
            for difference in error.differences:
                print(f"annals: {difference}", file=sys.stderr)
            print(f"annals: {_CHANGE_NOTHING}", file=sys.stderr)
            return 1
        with closing(made.log) as log:
            # The keys are made once for a log: with others, what it holds could not be opened.
            prepare(config, log_is_new=first_genesis(log) is None)
            begin_log(log, config.server_name)
            for spec in log_topics():
                word = "made" if spec.name in made.mended else "found"
                print(f"{word:<6} {spec.name:<14} {spec.partitions} partition{'s' * (spec.partitions > 1)}")
            print(f"log {log.log_id} of {config.server_name} is ready: {made.where}")
        return 0

    return said(init, lambda line: print(line, file=sys.stderr))


def _show(arguments: argparse.Namespace) -> int:
    from annals.audit.room_log import room_log
    from annals.database.generation import checked_generation
    from annals.server.config import load
    from annals.server.operator_access import opened_log, said

    def show() -> int:
        with opened_log(load(arguments.config)) as log:
            count = 0
            for line in room_log(log, arguments.room, checked_generation(arguments.generation)):
                count += 1
                if arguments.json:
                    print(json.dumps(line.data, ensure_ascii=False))
                else:
                    indent = "" if line.kind == "fact" else "  "
                    print(f"{indent + line.kind:<10}  {line.at:<10}  {line.what:<14}  {line.detail}".rstrip())
            if not count:
                print(f"annals: the log has no facts of {arguments.room}", file=sys.stderr)
            return 0 if count else 1

    return said(show, lambda line: print(line, file=sys.stderr))
