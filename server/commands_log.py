"""annals log: what the log holds, for people."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from annals.server.cli import Commands


def register(commands: Commands) -> None:
    show = commands.add("log show", "a room's facts and what was decided about them, in order", _show)
    show.add_argument("room", metavar="ROOM", help="a room id")
    show.add_argument("--generation", default="g1", metavar="gN", help="whose decisions (g1)")
    show.add_argument("--json", action="store_true", help="one JSON object a line, with all that is recorded")


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
