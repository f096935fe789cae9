"""annals switch, generation follow, generation unfollow: which generation serves, and which are kept up beside it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from annals.server.cli import Commands


def register(commands: Commands) -> None:
    switch = commands.add("switch", "let another generation serve, while the server runs", _switch)
    switch.add_argument("name", metavar="gN", help="the one that shall serve")
    switch.add_argument("--actor", metavar="NAME", help="who does this (the user of this system)")
    switch.add_argument("--reason", metavar="TEXT", default="", help="why")
    follow = commands.add("generation follow", "have a running server keep a generation up to date", _follow)
    follow.add_argument("name", metavar="gN")
    unfollow = commands.add("generation unfollow", "leave a generation where it is", _unfollow)
    unfollow.add_argument("name", metavar="gN")


def _switch(arguments: argparse.Namespace) -> int:
    import getpass

    from annals.audit.switching import switch
    from annals.database.generation import checked_generation
    from annals.server.config import load
    from annals.server.operator_access import command_on, opened_log, opened_tables, said

    def run() -> int:
        config = load(arguments.config)
        name, actor = checked_generation(arguments.name), arguments.actor or getpass.getuser()
        with opened_log(config) as log, opened_tables(config) as database:
            assert database is not None
            done = switch(command_on(log), database, name, config.server_name, actor, arguments.reason, _say)
        for room_id in done.rooms:
            print(room_id)
        return 0

    return said(run, _complain)


def _follow(arguments: argparse.Namespace) -> int:
    from annals.audit.errors import GenerationInUse
    from annals.audit.following import follow
    from annals.database.generation import checked_generation
    from annals.database.migrate import generations
    from annals.server.config import load
    from annals.server.operator_access import opened_tables, said

    def run() -> int:
        config = load(arguments.config)
        name = checked_generation(arguments.name)
        with opened_tables(config) as database:
            assert database is not None
            if name not in generations(database.url):
                raise GenerationInUse(f"there are no tables of {name}")
            database.write_now(lambda statements: follow(statements, name))
        print(f"{name} is followed by the process `projectors`")
        return 0

    return said(run, _complain)


def _unfollow(arguments: argparse.Namespace) -> int:
    from annals.audit.following import unfollow
    from annals.database.generation import checked_generation
    from annals.server.config import load
    from annals.server.operator_access import opened_tables, said

    def run() -> int:
        config = load(arguments.config)
        name = checked_generation(arguments.name)
        with opened_tables(config) as database:
            assert database is not None
            was = database.write_now(lambda statements: unfollow(statements, name))
        print(f"{name} is followed no more" if was else f"{name} was not followed")
        return 0

    return said(run, _complain)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _complain(line: str) -> None:
    print(line, file=sys.stderr)
