"""The generator: a process of its own, so that what it costs is not in the server's way more than it must be.

python -m benchmarks.generator JOB     # JOB is JSON, see Job; prints the answer as JSON
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence

import msgspec
import uvloop

from benchmarks.works import WORKS, Outcome, World, prepare

# A server that hangs ends the run instead of holding it.
PREPARATION_S, SLACK_S = 300.0, 60.0


class Job(msgspec.Struct, frozen=True, tag=True):
    """Run one work against the server whose process trees begin at `roots`."""

    work: str
    world: World
    roots: tuple[int, ...]
    seconds: float


class Preparation(msgspec.Struct, frozen=True, tag=True):
    """Make the world of a fresh server."""

    url: str


def measure(job: Job) -> Outcome:
    """Run a job in a process of its own. Raises CalledProcessError when it failed (its errors are on stderr)."""
    return msgspec.json.decode(_run(job), type=Outcome)


def prepared(preparation: Preparation) -> World:
    """Prepare a server, in a process of its own."""
    return msgspec.json.decode(_run(preparation), type=World)


def _run(job: Job | Preparation) -> bytes:
    command = [sys.executable, "-m", "benchmarks.generator", msgspec.json.encode(job).decode()]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


async def _answer(job: Job | Preparation) -> World | Outcome:
    if isinstance(job, Preparation):
        return await asyncio.wait_for(prepare(job.url), PREPARATION_S)
    return await asyncio.wait_for(WORKS[job.work](job.world, job.roots, job.seconds), job.seconds + SLACK_S)


def main(arguments: Sequence[str]) -> None:
    job: Job | Preparation = msgspec.json.decode(arguments[0], type=Job | Preparation)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_answer(job))))


if __name__ == "__main__":
    main(sys.argv[1:])
