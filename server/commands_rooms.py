"""annals rooms, annals room: rooms that stand still, and letting them go on."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from annals.eventlog.api import Log
    from annals.server.cli import Commands
    from annals.server.config import Config

_DECIDED_TIMEOUT_S = 30.0


def register(commands: Commands) -> None:
    halted = commands.add("rooms halted", "rooms that stand still, and the fact that each stands at", _halted)
    halted.add_argument("--json", action="store_true", help="one JSON object a line")
    resume = commands.add("room resume", "let a halted room go on", _resume)
    resume.add_argument("room", metavar="ROOM", help="a room id")
    resume.add_argument(
        "--skip", type=int, nargs="+", action="extend", default=[], metavar="OFFSET", help="leave these facts out"
    )
    resume.add_argument("--actor", required=True, metavar="NAME", help="who does this")
    resume.add_argument("--reason", required=True, metavar="TEXT", help="why")


def _halted(arguments: argparse.Namespace) -> int:
    from annals.audit.halted import halted_rooms
    from annals.server.config import load
    from annals.server.operator_access import opened_tables, said

    def show() -> int:
        with opened_tables(load(arguments.config)) as database:
            assert database is not None
            rooms = database.read_now(halted_rooms)
        for room in rooms:
            if arguments.json:
                print(json.dumps({name: getattr(room, name) for name in ("room_id", "source", "error", "waiting")}))
            else:
                print(f"{room.room_id}  stands at {room.source}, {len(room.waiting)} waiting: {_line(room.error)}")
        if not rooms and not arguments.json:
            print("no room stands still")
        return 0

    return said(show, _complain)


def _line(error: str) -> str:
    from annals.audit.plain import printable

    return printable(error.partition("\n")[0])


def _resume(arguments: argparse.Namespace) -> int:
    from annals.server.config import load
    from annals.server.operator_access import opened_log, said

    def resume() -> int:
        config = load(arguments.config)
        with opened_log(config) as log:
            return _resume_on(arguments, config, log)

    return said(resume, _complain)


def _resume_on(arguments: argparse.Namespace, config: Config, log: Log) -> int:
    from annals.audit.room_resume import resume_room, wait_for_step
    from annals.eventlog.partition import partition_of
    from annals.schemas.topics import decisions_topic
    from annals.server.operator_access import command_on

    generation = _written_by_a_server(config)
    if arguments.skip and generation is not None and not _stands_still(config, arguments.room):
        _complain(f"annals: {arguments.room} does not stand still: there is nothing to leave out")
        return 1
    partition = partition_of(arguments.room, log.partitions("rooms"))
    ends = 0 if generation is None else log.end(decisions_topic(generation).name, partition)
    partition, offset = resume_room(command_on(log), arguments.room, arguments.skip, arguments.actor, arguments.reason)
    print(f"resumed by the fact at rooms[{partition}] {offset}")
    if generation is None:
        print("no server runs: it is decided when one does")
        return 0
    step = wait_for_step(log, generation, partition, offset, ends, _DECIDED_TIMEOUT_S)
    if step is None:
        _complain(f"annals: not decided within {_DECIDED_TIMEOUT_S:.0f} s; the fact stays on the log")
        return 1
    return _outcome(arguments.room, step)


def _written_by_a_server(config: Config) -> str | None:
    """The generation that serves, where a running server decides for it now."""
    from annals.audit.generations import live_owner, serving
    from annals.server.operator_access import opened_tables

    with opened_tables(config, start=False) as database:
        generation = None if database is None else serving(database)
        if database is None or generation is None or live_owner(database, generation) is None:
            return None
        return generation


def _stands_still(config: Config, room_id: str) -> bool:
    from annals.audit.halted import halted_rooms
    from annals.server.operator_access import opened_tables

    with opened_tables(config) as database:
        assert database is not None
        return any(room.room_id == room_id for room in database.read_now(halted_rooms))


def _outcome(room_id: str, step: object) -> int:
    from annals.projectors.rooms.decided import DecidedStep
    from annals.schemas.facts.decisions import Halted, Skipped

    assert isinstance(step, DecidedStep)
    halted = [decision for decision in step.decisions if isinstance(decision, Halted)]
    if halted:
        _complain(f"annals: {room_id} stands still again: {_line(halted[-1].error)}")
        return 1
    first = step.decisions[0]
    if isinstance(first, Skipped) and first.reason == "not_halted":
        _complain(f"annals: {room_id} did not stand still: nothing was changed")
        return 1
    skipped = sum(isinstance(decision, Skipped) for decision in step.decisions)
    print(
        f"{room_id} goes on: {len({d.source for d in step.decisions}) - 1 - skipped} facts decided, {skipped} left out"
    )
    return 0


def _complain(line: str) -> None:
    print(line, file=sys.stderr)
