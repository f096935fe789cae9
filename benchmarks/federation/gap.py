"""`python -m benchmarks.federation.gap`: what a gap in a room of 60,000 state and auth events costs.

A scripted server, in a process of its own, has a room of 60,000 members (`--members`), which a user joins. Then 150
events happen there of which we hear nothing, every tenth a new member, and the last of them is pushed to us: more than
get_missing_events reaches over, so that the state before an event far back is asked for. Printed: seconds until the
client can read the pushed event, CPU seconds and peak memory (PSS) of each process of ours over what was there before,
and what the scripted server was asked and gave: every event that it gave is one that we loaded and verified.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote, unquote

import aiohttp
import msgspec
import orjson
import uvloop
from aiohttp import web

from annals.matrix.events import Event, parse_event
from benchmarks.federation.flood import transactions
from benchmarks.federation.joining import Cost, Job, ReadyPeer, Watch, join_room, shown
from benchmarks.federation.servers import FederatedAnnals
from benchmarks.http_client import UnexpectedAnswer
from benchmarks.peers import DidNotStart
from benchmarks.processes import cpu_ms
from benchmarks.users import User, register
from tests.support.scripted_peer import Authority, Handler, make_authority
from tests.support.scripted_room import ScriptedRoom

MEMBERS, EVENTS, MEMBER_EVERY, TIMEOUT_S, WAIT_S = 60_000, 150, 10, 1_500, 300
ROOM = "/_matrix/federation/v1/"


class GapPeer(ReadyPeer):
    """Answers about a room whose events stand in a line. `given`: events and ids, by endpoint."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        super().__init__(authority, folder)
        self.asked_for: Counter[str] = Counter()
        self.given: Counter[str] = Counter()
        self.base: list[str] = []
        self.chain: list[str] = []
        self.came: list[Event] = []
        """Members who came in the gap."""

    def begin_gap(self, room: ScriptedRoom) -> None:
        """From now on the state is what it is here, and who comes."""
        self.base = [event.event_id for event in room.state.values()]
        self.chain = [event.event_id for event in room.auth_chain(list(room.state.values()))]

    def _default(self, request: web.Request) -> Handler | None:
        endpoint = request.path.removeprefix(ROOM).split("/")[0]
        answer = {"get_missing_events": self._missing, "state_ids": self._state_ids, "event": self._event}.get(endpoint)
        if request.path.startswith(ROOM) and endpoint in ("state", "event_auth", "backfill"):
            self.asked_for[endpoint] += 1
        return answer or super()._default(request)

    async def _missing(self, got: web.Request) -> web.StreamResponse:
        asked = orjson.loads(await got.read())
        events = next(iter(self.rooms.values())).events
        found: list[Event] = []
        todo = [other for event_id in asked["latest_events"] for other in events[event_id].prev_events]
        while todo and len(found) < asked["limit"]:
            event = events[todo.pop(0)]
            if event.event_id not in asked["earliest_events"] and event not in found:
                found.append(event)
                todo += event.prev_events
        return self._answer_of("get_missing_events", {"events": [event.pdu for event in found]}, len(found))

    async def _state_ids(self, got: web.Request) -> web.StreamResponse:
        room = next(iter(self.rooms.values()))
        depth = room.events[got.query["event_id"]].depth
        came = [event.event_id for event in self.came if event.depth < depth]
        answer = {"pdu_ids": [*self.base, *came], "auth_chain_ids": self.chain}
        return self._answer_of("state_ids", answer, 0)

    async def _event(self, got: web.Request) -> web.StreamResponse:
        event = next(iter(self.rooms.values())).events[unquote(got.path.rsplit("/", 1)[1])]
        answer = {"origin": self.name, "origin_server_ts": 1, "pdus": [event.pdu]}
        return self._answer_of("event", answer, 1)

    def _answer_of(self, endpoint: str, answer: object, count: int) -> web.StreamResponse:
        self.asked_for[endpoint] += 1
        self.given[endpoint] += count
        return web.Response(body=orjson.dumps(answer), content_type="application/json")


async def _until_readable(user: User, room: ScriptedRoom, event: Event) -> None:
    path = f"/rooms/{quote(room.room_id)}/event/{quote(event.event_id)}"
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await user.call("GET", path)
            except UnexpectedAnswer as error:
                if not {"403", "404", "503"}.intersection(str(error).split()):
                    raise
                await asyncio.sleep(0.05)
            else:
                return


async def _measured(peer: GapPeer, room: ScriptedRoom, user: User, job: Job, to: str) -> Cost:
    for number in range(EVENTS):
        if number % MEMBER_EVERY == 0:
            peer.came.append(room.member(f"late{number}"))
        else:
            room.say(f"message {number}")
    last = room.say("the last one")
    [(target, header, body)] = transactions(peer, to, [last])
    watch = Watch(job.roots)
    watch.look()
    before, before_sum, used = dict(watch.most), watch.most_sum, cpu_ms(job.roots)
    watching = threading.Thread(target=watch.run)
    watching.start()
    began_s = time.monotonic()
    try:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=job.cert))
        async with aiohttp.ClientSession(connector=connector) as session:
            headers = {"Authorization": header, "Content-Type": "application/json"}
            async with session.put(f"https://{to}{target}", data=body, headers=headers) as answer:
                answer.raise_for_status()
        await _until_readable(user, room, last)
        took_s = time.monotonic() - began_s
    finally:
        watch.stop()
        await asyncio.to_thread(watching.join)
    cpu = {part: (ms - used.get(part, 0.0)) / 1000 for part, ms in cpu_ms(job.roots).items()}
    over = {part: mib - before.get(part, 0.0) for part, mib in watch.most.items()}
    return Cost(took_s, cpu, watch.most, over, watch.most_sum - before_sum)


async def serve(job: Job, to: str) -> None:
    """The scripted server's process."""
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(GapPeer(Authority(Path(job.cert), Path(job.key)), Path(job.folder)))
        room = peer.make_room(job.version, members=job.members)
        peer.make_ready(room)
        user = await User.open(job.url, await register(job.url, f"joiner{time.monotonic_ns()}"))
        began_s = time.monotonic()
        await join_room(user, room)
        print(f"joined in {time.monotonic() - began_s:.1f} s", flush=True)
        room.take(parse_event(peer.joined[room.room_id], room.rules))
        peer.begin_gap(room)
        print(shown(await _measured(peer, room, user, job, to)), flush=True)
        print(f"asked: {json.dumps(peer.asked_for)}; events given: {json.dumps(peer.given)}", flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.federation.gap")
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--version", default="12")
    parser.add_argument("--job", nargs=2, help="(of the process that serves the room)")
    chosen = parser.parse_args(arguments)
    if chosen.job:
        logging.disable(logging.WARNING)
        uvloop.run(serve(msgspec.json.decode(chosen.job[0], type=Job), chosen.job[1]))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="annals-gap-"))
    try:
        authority = make_authority(folder / "authority")
        server = FederatedAnnals(folder / "annals", authority)
        with server:
            job = Job(
                url=server.url,
                roots=server.roots,
                cert=str(authority.cert),
                key=str(authority.key),
                folder=str(folder / "remote"),
                members=chosen.members,
                runs=1,
                version=chosen.version,
            )
            told = [msgspec.json.encode(job).decode(), f"127.0.0.1:{server.federation_port}"]
            command = [sys.executable, "-m", "benchmarks.federation.gap", "--job", *told]
            return subprocess.run(command, check=False, timeout=TIMEOUT_S).returncode
    except DidNotStart as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
