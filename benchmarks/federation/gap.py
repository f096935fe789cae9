"""`python -m benchmarks.federation.gap`: what a gap in a room of 60,000 state and auth events costs.

A scripted server, in a process of its own, has a room of 60,000 members (`--members`), which a user joins. Then 150
events happen there (`--events`) of which we hear nothing, every tenth a new member, and the last of them is pushed to
us: more than get_missing_events reaches over, so that the state before an event far back is asked for. With `--late N`,
N more members come before that, of whom we hear nothing either: `--members 10 --late 60000` is a gap of whose state we
lack all. Printed: seconds until the client can read the pushed event, CPU seconds and peak memory (PSS) of each process
of ours over what was there before, and what the scripted server was asked and gave: every event that it gave is one
that we loaded and verified.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote, unquote

import aiohttp
import orjson
from aiohttp import web

from annals.matrix.events import Event, parse_event
from benchmarks.federation.beside_a_script import Job, ReadyPeer, measured, run_beside, whole_state
from benchmarks.federation.flood import transactions
from benchmarks.federation.joining import join_room
from benchmarks.http_client import UnexpectedAnswer
from benchmarks.users import User, register
from tests.support.scripted_peer import Authority, Handler
from tests.support.scripted_room import ScriptedRoom

MEMBERS, EVENTS, MEMBER_EVERY, WAIT_S = 60_000, 150, 10, 600
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
        """Members who came since."""
        self.whole = b""

    def stand_here(self, room: ScriptedRoom) -> None:
        """From now on the state is what it is here, and who comes: told by its ids. /state is told as it is here."""
        self.whole = whole_state(room, "pdus")
        self.base = [event.event_id for event in room.state.values()]
        self.chain = [event.event_id for event in room.auth_chain(list(room.state.values()))]

    def _default(self, request: web.Request) -> Handler | None:
        endpoint = request.path.removeprefix(ROOM).split("/")[0]
        answer = {
            "get_missing_events": self._missing,
            "state_ids": self._state_ids,
            "state": self._state,
            "event": self._event,
        }.get(endpoint)
        if request.path.startswith(ROOM) and endpoint in ("event_auth", "backfill"):
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

    async def _state(self, _: web.Request) -> web.StreamResponse:
        # Those who came since are lacking: they are asked for by themselves, if at all.
        self.asked_for["state"] += 1
        self.given["state"] += len(self.base) + len(self.chain)
        return web.Response(body=self.whole, content_type="application/json")

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


async def _pushed(peer: GapPeer, room: ScriptedRoom, user: User, job: Job, last: Event) -> None:
    [(target, header, body)] = transactions(peer, job.to, [last])
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=job.cert))
    async with aiohttp.ClientSession(connector=connector) as session:
        headers = {"Authorization": header, "Content-Type": "application/json"}
        async with session.put(f"https://{job.to}{target}", data=body, headers=headers) as answer:
            answer.raise_for_status()
    await _until_readable(user, room, last)


async def serve(job: Job) -> None:
    """The scripted server's process."""
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(GapPeer(job.authority, Path(job.folder)))
        room = peer.make_room(str(job.settings["version"]), members=job.number("members"))
        peer.make_ready(room)
        account = await register(job.url, f"joiner{time.monotonic_ns()}")
        user = await User.open(job.url, account)
        began_s = time.monotonic()
        await join_room(user, room)
        print(f"joined in {time.monotonic() - began_s:.1f} s", flush=True)
        room.take(parse_event(peer.joined[room.room_id], room.rules))
        for number in range(job.number("late")):
            room.member(f"unheard{number}")
        peer.stand_here(room)
        for number in range(job.number("events")):
            if number % MEMBER_EVERY == 0:
                peer.came.append(room.member(f"late{number}"))
            else:
                room.say(f"message {number}")
        last = room.say("the last one")
        # That took long: a connection that is not used is closed.
        user.close()
        user = await User.open(job.url, account)
        print(await measured(job.roots, _pushed(peer, room, user, job, last)), flush=True)
        print(f"asked: {json.dumps(peer.asked_for)}; events given: {json.dumps(peer.given)}", flush=True)


if __name__ == "__main__":
    settings: dict[str, int | str] = {"members": MEMBERS, "late": 0, "events": EVENTS, "version": "12"}
    sys.exit(run_beside("benchmarks.federation.gap", serve, settings, sys.argv[1:]))
