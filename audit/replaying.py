"""Filling a generation beside the one that serves, and bringing two to the same position before they are compared."""

from __future__ import annotations

import time
from collections.abc import Callable

from annals.audit.errors import GenerationInUse
from annals.audit.generations import (
    check_unwritten,
    is_written,
    live_owner,
    recorded_generations,
    serving,
)
from annals.audit.operating import Operating
from annals.database.errors import ConnectionLost
from annals.database.generation import FIRST_GENERATION
from annals.database.pool import Database
from annals.eventlog.api import Log
from annals.projectors.errors import FenceLost, Superseded, TakenMeanwhile
from annals.projectors.positions.read import covers, projected_ends, vector_of
from annals.projectors.rebuild import Mode, Progress, replay
from annals.schemas.facts.operations import GenerationCreated

LIVE_WAIT_S = 60.0
BEGIN_WAIT_S = 20.0
_LOOK_AGAIN_S = 0.1


def replay_into(
    operating: Operating,
    database: Database,
    name: str,
    mode: Mode,
    server_name: str,
    source: str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    cpu_share: float = 1.0,
) -> Progress:
    """Make a generation, as a fact, or go on where an earlier replay was stopped. Raises GenerationInUse.

    `source` is whose decisions a fold applies; None: the one that serves.
    """
    log = operating.log
    if mode == "recompute" and source is not None:
        raise GenerationInUse("a recompute decides anew: it takes no other generation's decisions")
    if mode == "fold":
        source = source or serving(database) or FIRST_GENERATION
        _check_source(log, source, name)
    _check_free(log, database, name, mode)
    if name not in recorded_generations(log):
        operating.append([GenerationCreated(operating.envelope(is_cause=True), name, mode)])
    return replay(
        log,
        database.url,
        name,
        mode,
        server_name,
        source_generation=source,
        on_progress=on_progress,
        cpu_share=cpu_share,
    )


def _check_source(log: Log, source: str, name: str) -> None:
    if source == name:
        raise GenerationInUse(f"{name} cannot be folded from its own decisions: give it another name")
    recorded = recorded_generations(log).get(source)
    if recorded is None or recorded.dropped:
        raise GenerationInUse(f"there is no generation {source} to take decisions from")


def _check_free(log: Log, database: Database, name: str, mode: Mode) -> None:
    if serving(database) == name:
        raise GenerationInUse(f"{name} serves: replay into another one")
    check_unwritten(database, name)
    recorded = recorded_generations(log).get(name)
    if recorded is None:
        return
    if recorded.dropped:
        raise GenerationInUse(f"{name} was dropped, and its decisions are still on the log: take another name")
    if recorded.mode != mode:
        raise GenerationInUse(f"{name} was begun by {recorded.mode}: go on with that, or take another name")


def bring_up(log: Log, database: Database, name: str, server_name: str) -> None:
    """Have a generation hold all that is on the log now. One that nobody writes is folded here; who writes a live one,
    or begins to meanwhile, is waited for. Raises GenerationInUse."""
    recorded = recorded_generations(log).get(name)
    if recorded is None or recorded.dropped:
        raise GenerationInUse(f"there is no generation {name}")
    if not _is_begun(database, name):
        try:
            _fold(log, database, name, recorded.mode, server_name)
            return
        except (ConnectionLost, FenceLost, Superseded, TakenMeanwhile):
            # Who takes it ends the connection of who had it.
            if live_owner(database, name) is None:
                raise
    _wait(log, database, name)


def _is_begun(database: Database, name: str) -> bool:
    """Whether a process writes it; one that is about to is waited for."""
    deadline_s = time.monotonic() + BEGIN_WAIT_S
    while live_owner(database, name) is None:
        if not is_written(database, name) or time.monotonic() > deadline_s:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True


def _fold(log: Log, database: Database, name: str, mode: str, server_name: str) -> None:
    source = serving(database)
    if mode == "fold" and source is not None and source != name:
        replay(log, database.url, name, "fold", server_name, source_generation=source)
    else:
        # What it decided itself is folded first, as at every start.
        replay(log, database.url, name, "recompute", server_name)


def _wait(log: Log, database: Database, name: str) -> None:
    ends = projected_ends(log)
    deadline_s = time.monotonic() + LIVE_WAIT_S
    while not covers(database.read_now(lambda s: vector_of(s.positions), generation=name), ends):
        if time.monotonic() > deadline_s:
            raise GenerationInUse(f"{name} does not reach the end of the log")
        time.sleep(_LOOK_AGAIN_S)
