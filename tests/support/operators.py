"""An operator's commands beside a server: in processes of their own, and where they are killed; or in the test's."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from annals.audit.generations import live_owner
from annals.server.operator_access import opened_tables
from tests.support import nursery
from tests.support.limits import with_limits
from tests.support.patience import PATIENCE_S
from tests.support.servers import Serve

REASON = ("--actor", "olga", "--reason", "a test")
#: How long an operator's command waits for others, and they for it, before it says that it cannot be done now.
_WAITS = {
    "annals.audit.generations:OWNER_GONE_S": PATIENCE_S,
    "annals.audit.replaying:BEGIN_WAIT_S": PATIENCE_S,
    "annals.audit.replaying:LIVE_WAIT_S": PATIENCE_S,
    "annals.audit.switching:NEAR_TIMEOUT_S": PATIENCE_S,
    "annals.audit.one_operator:LOCK_WAIT_S": PATIENCE_S,
    "annals.audit.together:STOP_S": PATIENCE_S,
    "annals.projectors.stops:STOP_S": PATIENCE_S,
    "annals.projectors.stops:_LOCK_WAIT_MS": int(PATIENCE_S * 1000),
    "annals.server.commands_rooms:_DECIDED_TIMEOUT_S": PATIENCE_S,
    "annals.server.operator_access:_STARTING_S": PATIENCE_S,
}
#: In the environment of a command.
LIMITS = with_limits(_WAITS)
#: The same, of one whose stop ends by itself as soon as in the wild.
SHORT_STOP = with_limits({place: value for place, value in _WAITS.items() if not place.endswith(":STOP_S")})
#: The command, which ends itself with SIGKILL at the `nth` call of a function: before it, or after it.
_KILLED = """
import importlib, os, signal, sys
module, name, nth, side, *words = sys.argv[1:]
owner = importlib.import_module(module)
*path, name = name.split(".")
for part in path:
    owner = getattr(owner, part)
wrapped, calls = getattr(owner, name), []
def call(*arguments, **more):
    calls.append(1)
    if len(calls) == int(nth) and side == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = wrapped(*arguments, **more)
    if len(calls) == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, name, call)
from annals.server.cli import main
sys.exit(main(words))
"""
#: The command, and then on standard error what it imported of ours and whom it connected to.
_WATCHED = """
import sys
connected = []
def hook(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple):  # a log's readers hear by sockets of the file system
        connected.append(args[1])
sys.addaudithook(hook)
from annals.audit import generations, replaying
generations.OWNER_GONE_S = replaying.BEGIN_WAIT_S = replaying.LIVE_WAIT_S = 300.0
from annals.server.cli import main
status = main(sys.argv[1:])
loaded = [name for name in sys.modules if name.split(".")[0] in ("httpx", "aiohttp", "requests", "urllib3")
          or name.startswith(("annals.egress", "annals.federation", "annals.api", "annals.ingest"))]
print("watched", connected, loaded, file=sys.stderr)
sys.exit(status)
"""


def wait_patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for commands that a test runs in its own process."""
    for place, value in _WAITS.items():
        module, name = place.split(":")
        monkeypatch.setattr(importlib.import_module(module), name, value)


def annals(serve: Serve, *words: str, status: int = 0) -> list[str]:
    """Run a command beside the server; its lines."""
    return _checked(nursery.run(*words, environment={**serve.environment, **LIMITS}), status).stdout.splitlines()


def killed(serve: Serve, where: tuple[str, str, int, str], *words: str, limits: Mapping[str, str] = LIMITS) -> None:
    """Run a command that SIGKILLs itself: module, function, at its how manieth call, before or after it."""
    module, name, nth, side = where
    program = ("-c", _KILLED, module, name, str(nth), side)
    _checked(nursery.run(*program, *words, environment={**serve.environment, **limits}), -9)


def watched(serve: Serve, *words: str) -> str:
    """Run a command; whom it connected to, and what it loaded that could send."""
    command = [sys.executable, "-c", _WATCHED, *words]
    ended = subprocess.run(command, env=serve.environment, capture_output=True, text=True, timeout=PATIENCE_S)
    _checked(ended, 0)
    return next(line for line in ended.stderr.splitlines() if line.startswith("watched "))


def _checked(ended: subprocess.CompletedProcess[str], status: int) -> subprocess.CompletedProcess[str]:
    assert ended.returncode == status, (ended.args, ended.returncode, ended.stdout + ended.stderr)
    # Shown where what it said is not what was expected.
    sys.stderr.write(ended.stderr)
    return ended


def rows(serve: Serve, sql: str, *params: Any) -> list[Any]:
    """What the database answers."""
    with opened_tables(serve.config) as database:
        assert database is not None
        return database.write_now(lambda statements: statements.rows(sql, params))


def serving(serve: Serve) -> str:
    """The generation that serves."""
    return str(rows(serve, "SELECT generation FROM ops.serving")[0][0])


def owner(serve: Serve, name: str) -> str | None:
    """Who writes a generation."""
    with opened_tables(serve.config) as database:
        assert database is not None
        return live_owner(database, name)


def has(serve: Serve, generation: str, event_id: str) -> bool:
    """Whether a generation has an event."""
    return bool(rows(serve, f"SELECT 1 FROM {generation}.events WHERE event_id = %s", event_id))
