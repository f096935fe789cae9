"""The works that are measured. Each runs for about `seconds` and returns figures by name.

Latencies are in milliseconds, seen by the client; `…_cpu_ms` is the CPU time of all of the server's processes, its
database included, for one event sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from benchmarks.figures import percentile
from benchmarks.processes import cpu_ms
from benchmarks.users import Account, User, log_in, register

SENDERS = 20
ROOMS, EVENTS_A_ROOM = 50, 20
FILLERS = 5  # rooms that are filled at once
ROOM_VERSION = "12"
WARM_UP_S = 1.0
SETTLE_S = 0.05  # long enough for a long poll to be waiting
SYNCS_MAX = 12
LONG_POLL_MS = 30_000


@dataclass(frozen=True, slots=True)
class World:
    """What the works need and `prepare` made: 20 members of one room, and a reader of 50 others."""

    url: str
    members: tuple[Account, ...]
    room_id: str
    reader: Account


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures by name, and CPU time for each event by the part of the server (empty where it is not measured)."""

    figures: dict[str, float]
    parts_cpu_ms: dict[str, float]


Work = Callable[[World, Sequence[int], float], Awaitable[Outcome]]


async def prepare(url: str) -> World:
    """Register everybody, make the rooms, fill them."""
    members = tuple([await register(url, f"member{number}") for number in range(SENDERS)])
    writer, reader = await register(url, "writer"), await register(url, "reader")
    owner = await User.open(url, members[0])
    room_id = await owner.create_room("benchmark", ROOM_VERSION)
    for account in members[1:]:
        member = await User.open(url, account)
        await member.join(room_id)
        member.close()
    names = iter([f"room {number}" for number in range(ROOMS)])
    await asyncio.gather(*[_fill_rooms(url, writer, reader, names) for _ in range(FILLERS)])
    owner.close()
    return World(url, members, room_id, reader)


async def _fill_rooms(url: str, writer: Account, reader: Account, names: Iterator[str]) -> None:
    author, guest = await User.open(url, writer), await User.open(url, reader)
    for name in names:
        room_id = await author.create_room(name, ROOM_VERSION)
        await guest.join(room_id)
        # create, member, power levels, join rules, visibility, guest access, name, the guest's member event
        for _ in range(EVENTS_A_ROOM - 8):
            await author.send(room_id)
    author.close()
    guest.close()


async def one_user(world: World, roots: Sequence[int], seconds: float) -> Outcome:
    """One user sends one message after the other, with nobody beside it."""
    user = await User.open(world.url, world.members[0])
    await _sending(user, world.room_id, time.perf_counter() + WARM_UP_S)
    before = cpu_ms(roots)
    took_ms = await _sending(user, world.room_id, time.perf_counter() + seconds)
    parts = _for_each(before, cpu_ms(roots), len(took_ms))
    user.close()
    figures = {
        "one_user_p50_ms": percentile(took_ms, 50),
        "one_user_p99_ms": percentile(took_ms, 99),
        "one_user_cpu_ms": sum(parts.values()),
    }
    return Outcome(figures, parts)


async def many_users(world: World, roots: Sequence[int], seconds: float) -> Outcome:
    """20 users send to one room, each one message after the other."""
    users = [await User.open(world.url, account) for account in world.members]
    begin_s = time.perf_counter() + WARM_UP_S
    end_s = begin_s + seconds
    senders = [asyncio.create_task(_sent_at(user, world.room_id, end_s)) for user in users]
    await asyncio.sleep(WARM_UP_S)
    before, began_s = cpu_ms(roots), time.perf_counter()
    await asyncio.sleep(end_s - began_s)
    after, ended_s = cpu_ms(roots), time.perf_counter()
    answered_s = [moment for moments in await asyncio.gather(*senders) for moment in moments]
    count = sum(began_s <= moment < ended_s for moment in answered_s)
    for user in users:
        user.close()
    parts = _for_each(before, after, count)
    figures = {"many_users_events_s": count / (ended_s - began_s), "many_users_cpu_ms": sum(parts.values())}
    return Outcome(figures, parts)


async def delivery(world: World, roots: Sequence[int], seconds: float) -> Outcome:
    """From just before a send until another user's waiting long poll has answered with that event."""
    sender, waiter = [await User.open(world.url, account) for account in world.members[:2]]
    since: str = orjson.loads(await waiter.sync_bytes())["next_batch"]
    took_ms: list[float] = []
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        poll = asyncio.create_task(_until_event(waiter, since))
        await asyncio.sleep(SETTLE_S)
        began_s = time.perf_counter()
        event_id = await sender.send(world.room_id)
        arrived_s, body = await poll
        while event_id.encode() not in body:  # woken by something else
            since = orjson.loads(body)["next_batch"]
            arrived_s, body = await _until_event(waiter, since)
        since = orjson.loads(body)["next_batch"]
        took_ms.append((arrived_s - began_s) * 1000)
    sender.close()
    waiter.close()
    return Outcome({"delivery_p50_ms": percentile(took_ms, 50), "delivery_p99_ms": percentile(took_ms, 99)}, {})


async def initial_sync(world: World, roots: Sequence[int], seconds: float) -> Outcome:
    """The first sync of a device that has just logged in: 50 rooms of 20 events."""
    # A device each, made beforehand: a server may keep the answer for a device that asks again.
    devices = [await log_in(world.url, world.reader.name) for _ in range(SYNCS_MAX + 1)]
    took_ms: list[float] = []
    end_s = time.perf_counter() + seconds
    for number, device in enumerate(devices):
        user = await User.open(world.url, device)
        began_s = time.perf_counter()
        body = await user.sync_bytes()
        ended_s = time.perf_counter()
        user.close()
        if number == 0:  # the warm-up, and the proof that the answer is what it should be
            _check_rooms(body)
            continue
        took_ms.append((ended_s - began_s) * 1000)
        if ended_s > end_s:
            break
    return Outcome({"initial_sync_p50_ms": percentile(took_ms, 50)}, {})


WORKS: dict[str, Work] = {
    "one_user": one_user,
    "many_users": many_users,
    "delivery": delivery,
    "initial_sync": initial_sync,
}


async def _sending(user: User, room_id: str, end_s: float) -> list[float]:
    took_ms = []
    while (began_s := time.perf_counter()) < end_s:
        await user.send(room_id)
        took_ms.append((time.perf_counter() - began_s) * 1000)
    return took_ms


async def _sent_at(user: User, room_id: str, end_s: float) -> list[float]:
    moments_s = []
    while time.perf_counter() < end_s:
        await user.send(room_id)
        moments_s.append(time.perf_counter())
    return moments_s


async def _until_event(waiter: User, since: str) -> tuple[float, bytes]:
    body = await waiter.sync_bytes(since, LONG_POLL_MS)
    return time.perf_counter(), body


def _check_rooms(body: bytes) -> None:
    rooms = orjson.loads(body)["rooms"]["join"]
    empty = [room_id for room_id, room in rooms.items() if not room["timeline"]["events"]]
    if not rooms or empty:
        raise ValueError(f"an initial sync with {len(rooms)} rooms, {len(empty)} of them without events")


def _for_each(before: dict[str, float], after: dict[str, float], events: int) -> dict[str, float]:
    return {part: (used - before.get(part, 0.0)) / max(1, events) for part, used in after.items()}
