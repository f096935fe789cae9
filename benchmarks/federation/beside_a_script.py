"""A server of ours, and beside it a process with a scripted server that measures what an action of its costs ours."""

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
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import orjson
import uvloop
from aiohttp import web

from annals.matrix.events import parse_event
from benchmarks.federation.servers import FederatedAnnals
from benchmarks.peers import DidNotStart
from benchmarks.processes import cpu_ms, memory_of_parts
from tests.support.scripted_peer import Authority, Handler, make_authority
from tests.support.scripted_room import RoomPeer, ScriptedRoom

TIMEOUT_S = 1_500
MEMORY_STEP_S = 0.1
MIB = 1 << 20


class Job(msgspec.Struct, frozen=True):
    """What the scripted server's process is told. `roots`: where the process trees of the measured server begin.

    `to` is that server's name; `settings`: what was asked for on the command line.
    """

    url: str
    to: str
    roots: tuple[int, ...]
    cert: str
    key: str
    folder: str
    settings: dict[str, int | str]

    def number(self, name: str) -> int:
        """A setting."""
        return int(self.settings[name])

    @property
    def authority(self) -> Authority:
        """What signs the certificates of both."""
        return Authority(Path(self.cert), Path(self.key))


class Cost(msgspec.Struct, frozen=True):
    """One action. `cpu_s`, `peak_mib`, `over_mib` by process; `sum_mib` is the peak of the sum over what was before."""

    seconds: float
    cpu_s: dict[str, float]
    peak_mib: dict[str, float]
    over_mib: dict[str, float]
    sum_mib: float

    def __str__(self) -> str:
        parts = [
            f"{part} {self.cpu_s.get(part, 0.0):.1f} s, {self.peak_mib[part]:.0f} MiB (+{self.over_mib[part]:.0f})"
            for part in sorted(self.peak_mib)
        ]
        total = sum(self.cpu_s.values())
        return f"{self.seconds:5.1f} s; CPU {total:.1f} s; peak +{self.sum_mib:.0f} MiB (PSS) | " + "; ".join(parts)


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


async def measured(roots: Sequence[int], action: Awaitable[None]) -> Cost:
    """Look on while it is done."""
    watch = Watch(roots)
    watch.look()
    before, before_sum, used = dict(watch.most), watch.most_sum, cpu_ms(roots)
    watching = threading.Thread(target=watch.run)
    watching.start()
    began_s = time.monotonic()
    try:
        await action
        took_s = time.monotonic() - began_s
    finally:
        watch.stop()
        await asyncio.to_thread(watching.join)
    cpu = {part: (ms - used.get(part, 0.0)) / 1000 for part, ms in cpu_ms(roots).items()}
    over = {part: mib - before.get(part, 0.0) for part, mib in watch.most.items()}
    return Cost(took_s, cpu, watch.most, over, watch.most_sum - before_sum)


class ReadyPeer(RoomPeer):
    """Has its answers to send_join ready: to make one of 10,000 members would be measured as well."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        super().__init__(authority, folder)
        self.takes_transactions = True
        self.ready: dict[str, bytes] = {}
        self.joined: dict[str, dict[str, Any]] = {}
        """The last event of send_join, by room."""

    def make_ready(self, room: ScriptedRoom) -> None:
        """The answer to a join of the room as it is."""
        self.ready[room.room_id] = whole_state(room, "state")[:-1]

    def _default(self, request: web.Request) -> Handler | None:
        async def join(got: web.Request) -> web.StreamResponse:
            room_id = request.path.split("/")[-2]
            event = parse_event(await got.json(), self.rooms[room_id].rules)
            self.joined[room_id] = event.pdu
            body = self.ready[room_id] + b',"event":' + orjson.dumps(event.pdu) + b"}"
            return web.Response(body=body, content_type="application/json")

        return join if "/v2/send_join/" in request.path else super()._default(request)


def whole_state(room: ScriptedRoom, name: str) -> bytes:
    """The room's state, under this name, and its auth chain, as JSON."""
    state = list(room.state.values())
    chain = room.auth_chain(state)
    answer = {"origin": room.server, name: [e.pdu for e in state], "auth_chain": [e.pdu for e in chain]}
    return orjson.dumps(answer)


def run_beside(
    module: str,
    serve: Callable[[Job], Coroutine[Any, Any, None]],
    defaults: dict[str, int | str],
    arguments: Sequence[str],
) -> int:
    """The program `module`: with a job it is the scripted server's process; else it starts ours, and that beside it."""
    parser = argparse.ArgumentParser(prog=module)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--job", help="(of the process of the scripted server)")
    chosen = vars(parser.parse_args(arguments))
    if told := chosen.pop("job"):
        logging.disable(logging.WARNING)
        uvloop.run(serve(msgspec.json.decode(told, type=Job)))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="annals-beside-"))
    try:
        authority = make_authority(folder / "authority")
        server = FederatedAnnals(folder / "annals", authority)
        with server:
            job = Job(
                server.url,
                f"127.0.0.1:{server.federation_port}",
                tuple(server.roots),
                str(authority.cert),
                str(authority.key),
                str(folder / "remote"),
                chosen,
            )
            command = [sys.executable, "-m", module, "--job", msgspec.json.encode(job).decode()]
            return subprocess.run(command, check=False, timeout=TIMEOUT_S).returncode
    except DidNotStart as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
