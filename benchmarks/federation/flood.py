"""The generator: remote servers with rooms, in a process of its own.

python -m benchmarks.federation.flood JOB     # JOB is JSON, see Flood; prints the figures as JSON

Each server makes a room of its own with its members, a user of the server that is measured joins it, and then the
servers push what they built and signed beforehand, each one transaction at a time, until the user has seen the last
event of every room by /sync.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from urllib.parse import quote

import aiohttp
import msgspec
import orjson
import uvloop

from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.events import Event
from annals.matrix.x_matrix import authorization
from benchmarks.processes import cpu_ms, memory
from benchmarks.users import User, register
from tests.support.scripted_peer import Authority
from tests.support.scripted_room import RoomPeer, ScriptedRoom

PDUS_MAX = 50
STATE_EVERY = 10
LONG_POLL_MS = 10_000
MEMORY_STEP_S = 0.05
MIB = 1 << 20


class Flood(msgspec.Struct, frozen=True):
    """What to do to the server whose process trees begin at `roots`. `events` are those of all servers together.

    `window`: how many events of a room a server sends beyond the last one that the user has seen (0: any number).
    Synapse throws its queue of a room away when it is over 100 events long.
    """

    url: str
    server_name: str
    roots: tuple[int, ...]
    user: str
    cert: str
    key: str
    folder: str
    servers: int
    members: int
    events: int
    version: str
    window: int


class Figures(msgspec.Struct, frozen=True):
    """`join_s` and `join_mib` are of the first room: time, and the most memory over what was there before."""

    join_s: float
    join_mib: float
    pdus_per_s: float = 0.0
    cpu_ms_per_pdu: float = 0.0
    parts_cpu_ms: dict[str, float] = {}


def timeline(room: ScriptedRoom, count: int) -> list[Event]:
    """So many events on the room's head; one in ten changes the state."""
    members = [user for (kind, user) in room.state if kind == "m.room.member" and user.startswith("@member")]
    events = []
    for number in range(count):
        sender = members[number % len(members)]
        if number % STATE_EVERY == 0:
            content = {"membership": "join", "displayname": f"name {number}"}
            events.append(room.add("m.room.member", sender, sender, content))
        else:
            content = {"msgtype": "m.text", "body": f"The quick brown fox jumps over the lazy dog, {number} times."}
            events.append(room.add("m.room.message", sender, None, content))
    return events


def transactions(peer: RoomPeer, to: str, events: Sequence[Event]) -> list[tuple[str, str, bytes]]:
    """(target, authorisation, body) of each, ready to be sent."""
    made = []
    for start in range(0, len(events), PDUS_MAX):
        pdus = [event.pdu for event in events[start : start + PDUS_MAX]]
        content = {"origin": peer.name, "origin_server_ts": int(time.time() * 1000), "pdus": pdus}
        target = f"/_matrix/federation/v1/send/{start}"
        header = authorization(peer.name, to, peer.key, "PUT", target, content)
        made.append((target, header, canonical_bytes(content)))
    return made


class Progress:
    """How far the user has seen each room; a sender may wait for it."""

    def __init__(self, each: Sequence[Sequence[Event]]) -> None:
        self._place = {event.event_id: (room, n) for room, events in enumerate(each) for n, event in enumerate(events)}
        self._counts = [len(events) for events in each]
        self._seen = [0] * len(each)
        self._moved = asyncio.Condition()

    async def saw(self, event_ids: Sequence[str]) -> None:
        """The user was told these."""
        async with self._moved:
            for event_id in event_ids:
                room, number = self._place.get(event_id, (0, -1))
                self._seen[room] = max(self._seen[room], number + 1)
            self._moved.notify_all()

    @property
    def whole(self) -> bool:
        """Whether the last event of each room was seen."""
        return self._seen == self._counts

    async def within(self, room: int, sent: int, window: int) -> None:
        """Until no more than `window` events are under way when so many have been sent."""
        async with self._moved:
            await self._moved.wait_for(lambda: not window or sent - self._seen[room] <= window)


async def push(
    session: aiohttp.ClientSession,
    to: str,
    made: Sequence[tuple[str, str, bytes]],
    allowed: Callable[[int], Awaitable[None]],
) -> None:
    """One after the other. Raises ValueError where an event was not taken."""
    for number, (target, header, body) in enumerate(made, 1):
        await allowed(number * PDUS_MAX)
        headers = {"Authorization": header, "Content-Type": "application/json"}
        async with session.put(f"https://{to}{target}", data=body, headers=headers) as answer:
            text = await answer.read()
            if answer.status != 200 or any(orjson.loads(text)["pdus"].values()):
                raise ValueError(f"{answer.status} {text[:500]!r}")


async def watch(user: User, since: str, progress: Progress) -> None:
    """Until the user was told the last event of each room."""
    while not progress.whole:
        answer = orjson.loads(await user.sync_bytes(since, LONG_POLL_MS))
        since = answer["next_batch"]
        rooms = answer.get("rooms", {}).get("join", {}).values()
        await progress.saw([event["event_id"] for room in rooms for event in room["timeline"]["events"]])


async def join(user: User, room: ScriptedRoom, roots: Sequence[int]) -> tuple[float, float]:
    """Join a room; seconds, and the most memory (PSS, MiB) over what was there before."""
    before = most = memory(roots).pss_bytes
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, (await asyncio.to_thread(memory, roots)).pss_bytes)
            await asyncio.sleep(MEMORY_STEP_S)

    watching = asyncio.create_task(watch())
    began_s = time.monotonic()
    await user.call("POST", f"/join/{quote(room.room_id)}?via={room.server}&server_name={room.server}", {})
    took_s = time.monotonic() - began_s
    done.set()
    await watching
    return took_s, (most - before) / MIB


async def run(job: Flood) -> Figures:
    """Do it."""
    authority = Authority(Path(job.cert), Path(job.key))
    account = await register(job.url, job.user)
    user = await User.open(job.url, account)
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(RoomPeer(authority, Path(job.folder) / str(number)))
            for number in range(job.servers)
        ]
        for peer in peers:
            peer.takes_transactions = True
        rooms = [peer.make_room(job.version, members=job.members) for peer in peers]
        joins = [await join(user, room, job.roots) for room in rooms]
        if not job.events:
            return Figures(*joins[0])
        tls = ssl.create_default_context(cafile=job.cert)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)))
        each = [timeline(room, job.events // job.servers) for room in rooms]
        made = [transactions(peer, job.server_name, events) for peer, events in zip(peers, each, strict=True)]
        since = orjson.loads(await user.sync_bytes())["next_batch"]
        used, began_s = cpu_ms(job.roots), time.monotonic()
        progress = Progress(each)
        pushing = [
            push(session, job.server_name, of_peer, partial(progress.within, room, window=job.window))
            for room, of_peer in enumerate(made)
        ]
        await asyncio.gather(watch(user, since, progress), *pushing)
        took_s, count = time.monotonic() - began_s, sum(map(len, each))
        parts = {part: (ms - used.get(part, 0.0)) / count for part, ms in cpu_ms(job.roots).items()}
        return Figures(*joins[0], count / took_s, sum(parts.values()), parts)


def main(arguments: Sequence[str]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run(msgspec.json.decode(arguments[0], type=Flood)))))


if __name__ == "__main__":
    main(sys.argv[1:])
