"""`python -m benchmarks.federation.joining`: what joining a large room by way of another server costs.

A scripted server, in a process of its own, has a room of 10,000 members (`--members`), its answer to send_join made
beforehand. A user joins it; and again, another user another such room, `--runs` times. Printed for each: seconds until
the client has its answer, CPU seconds and peak memory of each process of ours (PSS: a page that n processes share
counts as 1/n for each), and the peak of their sum over what was there before. The first join is one of processes that
have just started.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import orjson
import uvloop
from aiohttp import web

from annals.matrix.events import parse_event
from benchmarks.federation.servers import FederatedAnnals
from benchmarks.http_client import UnexpectedAnswer
from benchmarks.peers import DidNotStart
from benchmarks.processes import cpu_ms, memory_of_parts
from benchmarks.users import User, register
from tests.support.scripted_peer import Authority, Handler, make_authority
from tests.support.scripted_room import RoomPeer, ScriptedRoom

MEMBERS, RUNS, TIMEOUT_S = 10_000, 3, 900
MEMORY_STEP_S = 0.1
MIB = 1 << 20


class Job(msgspec.Struct, frozen=True):
    """What the scripted server's process is told. `roots`: where the process trees of the measured server begin."""

    url: str
    roots: tuple[int, ...]
    cert: str
    key: str
    folder: str
    members: int
    runs: int
    version: str


class Cost(msgspec.Struct, frozen=True):
    """One join. `cpu_s`, `peak_mib`, `over_mib` by process; `sum_mib` is the peak of the sum over what was before."""

    seconds: float
    cpu_s: dict[str, float]
    peak_mib: dict[str, float]
    over_mib: dict[str, float]
    sum_mib: float


@dataclass
class Watch:
    """The most memory that was seen, from the start until `stop`."""

    roots: Sequence[int]
    most: dict[str, float] = field(default_factory=dict)
    most_sum: float = 0.0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """In a thread."""
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(MEMORY_STEP_S)

    def look(self) -> None:
        """Once."""
        now = {part: bytes_ / MIB for part, bytes_ in memory_of_parts(self.roots).items()}
        self.most = {part: max(now.get(part, 0.0), self.most.get(part, 0.0)) for part in now | self.most}
        self.most_sum = max(self.most_sum, sum(now.values()))

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping.set()


class ReadyPeer(RoomPeer):
    """Has its answers to send_join ready: to make one of 10,000 members would be measured as well."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        super().__init__(authority, folder)
        self.ready: dict[str, bytes] = {}
        self.joined: dict[str, dict[str, Any]] = {}
        """The last event of send_join, by room."""

    def make_ready(self, room: ScriptedRoom) -> None:
        """The answer to a join of the room as it is."""
        state = list(room.state.values())
        chain = room.auth_chain(state)
        whole = {"origin": self.name, "state": [e.pdu for e in state], "auth_chain": [e.pdu for e in chain]}
        self.ready[room.room_id] = orjson.dumps(whole)[:-1]

    def _default(self, request: web.Request) -> Handler | None:
        async def join(got: web.Request) -> web.StreamResponse:
            room_id = request.path.split("/")[-2]
            event = parse_event(await got.json(), self.rooms[room_id].rules)
            self.joined[room_id] = event.pdu
            body = self.ready[room_id] + b',"event":' + orjson.dumps(event.pdu) + b"}"
            return web.Response(body=body, content_type="application/json")

        async def taken(_: web.Request) -> web.StreamResponse:
            return web.json_response({"pdus": {}})

        if "/v2/send_join/" in request.path:
            return join
        return taken if request.path.startswith("/_matrix/federation/v1/send/") else super()._default(request)


async def measured_join(user: User, room: ScriptedRoom, roots: Sequence[int]) -> Cost:
    """Join the room, and look on."""
    watch = Watch(roots)
    watch.look()
    before, before_sum, used = dict(watch.most), watch.most_sum, cpu_ms(roots)
    watching = threading.Thread(target=watch.run)
    watching.start()
    began_s = time.monotonic()
    try:
        await join_room(user, room)
        took_s = time.monotonic() - began_s
    finally:
        watch.stop()
        await asyncio.to_thread(watching.join)
    cpu = {part: (ms - used.get(part, 0.0)) / 1000 for part, ms in cpu_ms(roots).items()}
    over = {part: mib - before.get(part, 0.0) for part, mib in watch.most.items()}
    return Cost(took_s, cpu, watch.most, over, watch.most_sum - before_sum)


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
    """The scripted server's process: each cost as a line of JSON."""
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(ReadyPeer(Authority(Path(job.cert), Path(job.key)), Path(job.folder)))
        rooms = [peer.make_room(job.version, members=job.members) for _ in range(job.runs)]
        for room in rooms:
            peer.make_ready(room)
        for number, room in enumerate(rooms):
            user = await User.open(job.url, await register(job.url, f"joiner{number}-{time.monotonic_ns()}"))
            cost = await measured_join(user, room, job.roots)
            print(msgspec.json.encode(cost).decode(), flush=True)
            user.close()


def shown(cost: Cost) -> str:
    """A line for people."""
    parts = [
        f"{part} {cost.cpu_s.get(part, 0.0):.1f} s, {cost.peak_mib[part]:.0f} MiB (+{cost.over_mib[part]:.0f})"
        for part in sorted(cost.peak_mib)
    ]
    total = sum(cost.cpu_s.values())
    return f"{cost.seconds:5.1f} s; CPU {total:.1f} s; peak +{cost.sum_mib:.0f} MiB (PSS) | " + "; ".join(parts)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.federation.joining")
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--version", default="12")
    parser.add_argument("--job", help="(of the process that serves the rooms)")
    chosen = parser.parse_args(arguments)
    if chosen.job:
        logging.disable(logging.WARNING)
        uvloop.run(serve(msgspec.json.decode(chosen.job, type=Job)))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="annals-joining-"))
    try:
        authority = make_authority(folder / "authority")
        with FederatedAnnals(folder / "annals", authority) as server:
            job = Job(
                url=server.url,
                roots=server.roots,
                cert=str(authority.cert),
                key=str(authority.key),
                folder=str(folder / "remote"),
                members=chosen.members,
                runs=chosen.runs,
                version=chosen.version,
            )
            command = [
                sys.executable,
                "-m",
                "benchmarks.federation.joining",
                "--job",
                msgspec.json.encode(job).decode(),
            ]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
                kill = threading.Timer(TIMEOUT_S, serving.kill)
                kill.start()
                assert serving.stdout is not None
                for line in serving.stdout:
                    print(shown(msgspec.json.decode(line, type=Cost)), flush=True)
                kill.cancel()
            return serving.returncode
    except DidNotStart as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
