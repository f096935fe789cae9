"""annals replay, diff, generations, generation drop: a second set of tables from the same log, and comparing two."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from annals.audit.generation_diff import GenerationDiff, Judged
    from annals.audit.generations import Generation
    from annals.audit.row_diff import TableDiff
    from annals.projectors.rebuild import Progress
    from annals.server.cli import Commands

_SAY_EVERY_S = 0.5
_NICE = 10


def register(commands: Commands) -> None:
    replay = commands.add("replay", "build a generation from the log, beside the one that serves", _replay)
    replay.add_argument("--into", required=True, metavar="gN", help="its name")
    replay.add_argument(
        "--mode", required=True, choices=("fold", "recompute"), help="apply recorded decisions, or decide anew"
    )
    replay.add_argument(
        "--from", dest="source", metavar="gN", help="whose decisions a fold applies (the one that serves)"
    )
    replay.add_argument("--cpu-share", type=_share, default=1.0, metavar="0.5", help="work this much of the time")
    replay.add_argument(
        "--follow", action="store_true", help="have a running server keep it up to date from the end on (see switch)"
    )
    diff = commands.add("diff", "compare two generations; exit status 1 where they must be equal and are not", _diff)
    diff.add_argument("--rows", action="store_true", help="row for row too, table by table")
    diff.add_argument("--json", action="store_true", help="one JSON object")
    diff.add_argument("left", metavar="gN")
    diff.add_argument("right", metavar="gM")
    listed = commands.add("generations", "the generations, and how far each is", _generations)
    listed.add_argument("--json", action="store_true", help="one JSON object a line, with all positions")
    drop = commands.add("generation drop", "drop the tables of a generation that does not serve", _drop)
    drop.add_argument("name", metavar="gN")
    drop.add_argument("--yes", action="store_true", help="really")
    drop.add_argument("--actor", metavar="NAME", help="who does this (the user of this system)")


def _share(text: str) -> float:
    share = float(text)
    if not 0.01 <= share <= 1.0:
        raise argparse.ArgumentTypeError("from 0.01 to 1")
    return share


def _replay(arguments: argparse.Namespace) -> int:
    from annals.audit.following import follow
    from annals.audit.replaying import replay_into
    from annals.server.config import load
    from annals.server.operator_access import command_on, opened_log, opened_tables, said

    def replay() -> int:
        config = load(arguments.config)
        if arguments.cpu_share < 1.0:
            os.nice(_NICE)  # what serves goes first
        began_s = time.monotonic()
        with opened_log(config) as log, opened_tables(config) as database:
            assert database is not None
            done = replay_into(
                command_on(log),
                database,
                arguments.into,
                arguments.mode,
                config.server_name,
                arguments.source,
                _ProgressLine(),
                arguments.cpu_share,
            )
            print(f"{arguments.into} holds {done.done} records ({arguments.mode}, {time.monotonic() - began_s:.1f} s)")
            if arguments.follow:
                database.write_now(lambda statements: follow(statements, arguments.into))
                print(f"{arguments.into} is followed by the process `projectors`")
        return 0

    return said(replay, _complain)


class _ProgressLine:
    """A line on the terminal that tells how far a replay is, and how long it will take."""

    def __init__(self) -> None:
        self._began_s = self._said_s = time.monotonic()
        self._first: int | None = None

    def __call__(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if self._first is None:
            self._first = progress.done
        if not sys.stderr.isatty():
            return
        if progress.done >= progress.total:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        elif now_s - self._said_s >= _SAY_EVERY_S:
            self._said_s = now_s
            print("\r\x1b[K" + self._text(progress, now_s), end="", file=sys.stderr, flush=True)

    def _text(self, progress: Progress, now_s: float) -> str:
        made = progress.done - (self._first or 0)
        share = 100 * progress.done / progress.total if progress.total else 100.0
        text = f"{progress.done} of {progress.total} records ({share:.0f} %)"
        if made > 0:
            left_s = (progress.total - progress.done) * (now_s - self._began_s) / made
            text += f", about {left_s:.0f} s to go"
        return text


def _diff(arguments: argparse.Namespace) -> int:
    from annals.audit.generation_diff import diff
    from annals.database.generation import checked_generation
    from annals.server.config import load
    from annals.server.operator_access import opened_log, opened_tables, said

    def run() -> int:
        config = load(arguments.config)
        left, right = checked_generation(arguments.left), checked_generation(arguments.right)
        with opened_log(config) as log, opened_tables(config) as database:
            assert database is not None
            found = diff(log, database, left, right, config.server_name, rows=arguments.rows)
        if arguments.json:
            print(json.dumps(dataclasses.asdict(found), ensure_ascii=False, default=str))
        else:
            _say_rooms(found, left, right)
            _say_tables(found.rows or (), left, right)
        unequal = [f"{len(found.rooms)} rooms"] if found.rooms else []
        unequal += [table.table for table in found.rows or () if not table.equal]
        if unequal:
            _complain(f"annals: {left} and {right} differ in {', '.join(unequal)}")
        return 0 if found.equal else 1

    return said(run, _complain)


def _say_rooms(found: GenerationDiff, left: str, right: str) -> None:
    from annals.audit.plain import printable

    for room in found.rooms:
        print(printable(room.room_id))
        for key in room.keys:
            events = f"{left}: {key.left or '-'}  {right}: {key.right or '-'}"
            print(printable(f"    {key.type} {key.state_key!r}  {events}"))
        for event in room.events:
            verdicts = f"{left}: {_judged(event.left)}  {right}: {_judged(event.right)}"
            print(printable(f"    {event.event_id} ({event.type})  {verdicts}"))
    for wanted in found.wanted:
        print(printable(f"{wanted.generation} wants {wanted.event_id} of {wanted.room_id}"))
    if not found.rooms and found.rows is None:
        print(f"{left} and {right} have the same events, verdicts and room states")


def _judged(judged: Judged) -> str:
    because = " ".join(filter(None, (judged.rule and f"rule {judged.rule}", judged.reason)))
    return (judged.verdict or "not there") + (f" ({because})" if because else "")


def _say_tables(tables: Sequence[TableDiff], left: str, right: str) -> None:
    from annals.audit.plain import plain, printable

    width = max((len(table.table) for table in tables), default=0)
    for table in tables:
        verdict = "equal" if table.equal else f"{table.only_left} only in {left}, {table.only_right} only in {right}"
        print(f"{table.table:<{width}}  {table.rebuild:<8}  {table.rows:>8} rows  {verdict}")
        for generation, row in table.examples:
            print(f"    {generation}: {printable(json.dumps(plain(row), ensure_ascii=False, default=str))}")


def _generations(arguments: argparse.Namespace) -> int:
    from annals.audit.generations import list_generations
    from annals.server.config import load
    from annals.server.operator_access import opened_log, opened_tables, said

    def show() -> int:
        config = load(arguments.config)
        with opened_log(config) as log, opened_tables(config) as database:
            assert database is not None
            for generation in list_generations(log, database):
                print(json.dumps(_as_json(generation)) if arguments.json else _as_text(generation))
        return 0

    return said(show, _complain)


def _as_text(generation: Generation) -> str:
    serves = "serves" if generation.serves else "followed" if generation.followed else ""
    if generation.positions is None:
        return f"{generation.name:<5}  {generation.mode or '?':<9}  {serves:<8}  no tables"
    topics: dict[str, list[str]] = {}
    for (topic, _), offset in sorted(generation.positions.items()):
        topics.setdefault(topic, []).append(str(offset))
    positions = "  ".join(f"{topic} {','.join(offsets)}" for topic, offsets in topics.items())
    written = f"written by {generation.owner}" if generation.owner else "written by nobody"
    return (
        f"{generation.name:<5}  {generation.mode or '?':<9}  {serves:<8}  lag {generation.lag}  {written}  {positions}"
    )


def _as_json(generation: Generation) -> dict[str, object]:
    positions = generation.positions
    return {
        "name": generation.name,
        "mode": generation.mode,
        "serves": generation.serves,
        "followed": generation.followed,
        "owner": generation.owner,
        "lag": generation.lag,
        "positions": None if positions is None else [[*which, offset] for which, offset in sorted(positions.items())],
    }


def _drop(arguments: argparse.Namespace) -> int:
    import getpass

    from annals.audit.generations import drop
    from annals.database.generation import checked_generation
    from annals.server.config import load
    from annals.server.operator_access import command_on, opened_log, opened_tables, said

    def run() -> int:
        config = load(arguments.config)
        name = checked_generation(arguments.name)
        if not arguments.yes:
            _complain(f"annals: this drops all tables of {name}; say --yes to do it")
            return 2
        with opened_log(config) as log, opened_tables(config) as database:
            assert database is not None
            drop(command_on(log), database, name, arguments.actor or getpass.getuser())
        print(f"{name} is dropped")
        return 0

    return said(run, _complain)


def _complain(line: str) -> None:
    print(line, file=sys.stderr)
