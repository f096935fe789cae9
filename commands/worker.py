"""Commands over several keys, carried on by whoever holds the lease, until they are finished.

    CommandStarted (its plan has all ids) ─▶ row `started` ─▶ worker: steps ─▶ CommandFinished ─▶ row `done`
                                                  ▲               │
                                                  └── a kill ─────┘   any step may run again: steps are idempotent

The commands of one user run in the order of the log, those of several users side by side. A step that is refused is
done: it will be refused again. One that cannot be had now keeps the command, and what follows it, for a later pass.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from annals.commands.errors import NOT_NOW, Refused
from annals.database.errors import Unavailable
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.projectors.positions.appending import Appender
from annals.projectors.sealables import unpacked
from annals.schemas.facts.envelope import Sealed
from annals.schemas.facts.users import CommandFinished

_log = logging.getLogger(__name__)

USERS_AT_ONCE = 8
STEPS_AT_ONCE = 8
COMMANDS_PER_PASS = 1000
# A command whose step fails by a bug must not keep its user's later ones for ever.
ATTEMPTS_MAX = 10
RETRY_S_MIN, RETRY_S_MAX = 0.5, 10.0
# Notifications wake the worker; this is for one that got lost.
IDLE_S_MAX = 30.0
# Who is not the worker looks so often whether the one that is has ended.
STANDBY_S = 5.0

_STARTED_SQL = """
    SELECT user_id, command_id, kind, plan FROM commands WHERE state = 'started' ORDER BY user_id, source LIMIT %s
"""

_OPEN_SQL = "SELECT 1 FROM commands WHERE user_id = %s AND command_id = %s AND state = 'started'"

_NOT_NOW: tuple[type[Exception], ...] = (*NOT_NOW, Unavailable)

#: One idempotent part of a command. Refused: done for good; an error of NOT_NOW: again later.
Step = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Started:
    """A command that began and is not finished."""

    user_id: str
    command_id: str
    kind: str
    plan: dict[str, Any]


class Kind(Protocol):
    """What commands of one kind consist of."""

    #: How long a command is left to the process that began it, which may be at work on it at this moment.
    grace_s: float

    async def steps(self, command: Started) -> Sequence[Step]:
        """All steps, in any order; they may run side by side, and again. ValueError for a plan that makes no sense."""
        ...


class Lease(Protocol):
    """The right to be the worker (database.leases)."""

    async def held(self) -> bool:
        """Whether it is ours now; takes or renews it."""
        ...


class _Later(Exception):
    """Some step could not run now."""


_LATER: tuple[type[Exception], ...] = (_Later, *_NOT_NOW)


class Worker:
    """Runs what was started. `run` is one task of the role `remote`; `wake` is the notifier's."""

    def __init__(self, appender: Appender, database: Database, kinds: Mapping[str, Kind], lease: Lease) -> None:
        self._appender, self._database, self._kinds, self._lease = appender, database, kinds, lease
        self._woken = asyncio.Event()
        self._attempts: Counter[str] = Counter()
        self._first_seen_s: dict[str, float] = {}
        # When the first command that is left to who began it (`grace_s`) will be ours to carry on.
        self._due_s: float | None = None
        self._stands_by = False

    def wake(self) -> None:
        """Something of `users` moved: there may be a new command."""
        self._woken.set()

    async def run(self) -> None:
        """Pass after pass, until cancelled."""
        failures = 0
        while True:
            self._woken.clear()
            try:
                complete = await self.run_pass()
            except _NOT_NOW:
                complete = False
            if complete:
                failures = 0
                with suppress(TimeoutError):
                    # Not wait_for: on Python 3.11 it swallows a cancellation that comes together with the event.
                    async with asyncio.timeout(self._idle_s()):
                        await self._woken.wait()
            else:
                failures += 1
                await asyncio.sleep(min(RETRY_S_MAX, RETRY_S_MIN * 2 ** min(failures, 10)))

    async def run_pass(self) -> bool:
        """Everything that is started now; False where something is left for later."""
        self._stands_by = not await self._lease.held()
        if self._stands_by:
            return True
        commands, bad = await self._database.read(_started)
        self._due_s = None
        ids = {command.command_id for command in commands}
        self._first_seen_s = {key: seen_s for key, seen_s in self._first_seen_s.items() if key in ids}
        for user_id, command_id, reason in bad:
            await self._finish(user_id, command_id, "failed", reason)
        gate = asyncio.Semaphore(USERS_AT_ONCE)

        async def of_user(mine: list[Started]) -> bool:
            async with gate:
                return await self._run_in_order(mine)

        by_user = [list(group) for _, group in groupby(commands, key=lambda command: command.user_id)]
        outcomes = await asyncio.gather(*(of_user(mine) for mine in by_user))
        return all(outcomes) and len(commands) < COMMANDS_PER_PASS

    async def _run_in_order(self, commands: list[Started]) -> bool:
        for command in commands:
            # A long pass may outlive its lease. Steps are harmless twice, but there is no need for them.
            if not await self._lease.held():
                return True
            kind = self._kinds.get(command.kind)
            if kind is None:
                # A newer version's: it will be here, or has been.
                _log.warning("nobody here runs commands of kind %s (%s)", command.kind, command.command_id)
                continue
            if self._is_in_hands(command, kind.grace_s):
                # The user's later commands wait behind it; `run` comes again when it is due.
                return True
            try:
                if kind.grace_s and not await self._is_open(command):
                    continue
                refused = await _run_steps(await kind.steps(command))
            except _LATER:
                return False
            except Exception as error:
                if not await self._failed(command, error):
                    return False
                continue
            reason = f"{refused} steps were refused" if refused else None
            await self._finish(command.user_id, command.command_id, "done", reason)
        return True

    def _is_in_hands(self, command: Started, grace_s: float) -> bool:
        now_s = time.monotonic()
        due_s = self._first_seen_s.setdefault(command.command_id, now_s) + grace_s
        if due_s <= now_s:
            return False
        self._due_s = due_s if self._due_s is None else min(due_s, self._due_s)
        return True

    async def _is_open(self, command: Started) -> bool:
        """Whether nobody has ended it, by all that is on the log: where the tables of its user are late, it may be over
        long since, and what it did undone by its user."""
        await self._appender.settle_all("users", command.user_id)
        key = (command.user_id, command.command_id)
        return await self._database.read(lambda snapshot: snapshot.one(_OPEN_SQL, key)) is not None

    def _idle_s(self) -> float:
        """How long to wait for a notification before the next pass."""
        if self._stands_by:
            return STANDBY_S
        if self._due_s is None:
            return IDLE_S_MAX
        return max(0.0, min(IDLE_S_MAX, self._due_s - time.monotonic()))

    async def _failed(self, command: Started, error: Exception) -> bool:
        self._attempts[command.command_id] += 1
        _log.error("command %s (%s) failed", command.command_id, command.kind, exc_info=error)
        if self._attempts[command.command_id] < ATTEMPTS_MAX:
            return False
        await self._finish(command.user_id, command.command_id, "failed", f"{type(error).__name__}: {error}"[:500])
        return True

    async def _finish(self, user_id: str, command_id: str, outcome: str, reason: str | None) -> None:
        envelope = self._appender.envelope(command_id, f"finish {command_id}")
        await self._appender.submit_and_settle([CommandFinished(envelope, user_id, command_id, outcome, reason)])
        self._attempts.pop(command_id, None)


async def _run_steps(steps: Sequence[Step]) -> int:
    gate = asyncio.Semaphore(STEPS_AT_ONCE)

    async def run(step: Step) -> None:
        async with gate:
            await step()

    outcomes = await asyncio.gather(*(run(step) for step in steps), return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    later = False
    for error in errors:
        if isinstance(error, _NOT_NOW):
            later = True
        elif not isinstance(error, Refused):
            raise error
    if later:
        raise _Later
    return len(errors)


def _started(snapshot: Snapshot) -> tuple[list[Started], list[tuple[str, str, str]]]:
    commands: list[Started] = []
    bad: list[tuple[str, str, str]] = []
    for user_id, command_id, kind, column in snapshot.rows(_STARTED_SQL, (COMMANDS_PER_PASS,)):
        user_id, command_id = restore(user_id), restore(command_id)
        plan = unpacked(bytes(column))
        if isinstance(plan, Sealed):
            bad.append((user_id, command_id, "the plan is sealed"))
            continue
        commands.append(Started(user_id, command_id, restore(kind), json.loads(plan)))
    return commands, bad
