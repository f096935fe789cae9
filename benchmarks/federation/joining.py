"""`python -m benchmarks.federation.joining`: what joining a large room by way of another server costs.

A scripted server, in a process of its own, has a room of 10,000 members (`--members`), its answer to send_join made
beforehand. A user joins it; and again, another user another such room, `--runs` times. Printed for each: seconds until
the client has its answer, CPU seconds and peak memory of each process of ours (PSS: a page that n processes share
counts as 1/n for each), and the peak of their sum over what was there before. The first join is one of processes that
have just started.
"""

from __future__ import annotations

import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

from benchmarks.federation.beside_a_script import Job, ReadyPeer, measured, run_beside
from benchmarks.http_client import UnexpectedAnswer
from benchmarks.users import User, register
from tests.support.scripted_room import ScriptedRoom

MEMBERS, RUNS = 10_000, 3


async def join_room(user: User, room: ScriptedRoom) -> None:
    """Join it, however long it takes."""
    while True:
        try:
            await user.call("POST", f"/join/{quote(room.room_id)}?via={room.server}&server_name={room.server}", {})
        except UnexpectedAnswer as error:
            # The client is let go after a minute; when it comes again it waits for the same join.
            if not {"503", "504"}.intersection(str(error).split()):
                raise
        else:
            return


async def serve(job: Job) -> None:
    """The scripted server's process: a line for each join."""
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(ReadyPeer(job.authority, Path(job.folder)))
        version, members = str(job.settings["version"]), job.number("members")
        rooms = [peer.make_room(version, members=members) for _ in range(job.number("runs"))]
        for room in rooms:
            peer.make_ready(room)
        for number, room in enumerate(rooms):
            user = await User.open(job.url, await register(job.url, f"joiner{number}-{time.monotonic_ns()}"))
            print(await measured(job.roots, join_room(user, room)), flush=True)
            user.close()


if __name__ == "__main__":
    settings: dict[str, int | str] = {"members": MEMBERS, "runs": RUNS, "version": "12"}
    sys.exit(run_beside("benchmarks.federation.joining", serve, settings, sys.argv[1:]))
