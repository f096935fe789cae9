"""The process `remote`: resumes commands over several keys and talks to other servers."""

from __future__ import annotations

import asyncio
import secrets
import signal
from contextlib import suppress

from annals.commands.profile_fan_out import ProfileFanOut
from annals.commands.profiles import FAN_OUT
from annals.commands.rooms.creating import CREATE_ROOM, RoomCommandKind
from annals.commands.rooms.upgrading import UPGRADE_ROOM
from annals.commands.worker import Kind, Worker
from annals.database.leases import OpsLease
from annals.egress.service import Egress
from annals.ingest.inbound.retrying import QuarantineRetrier
from annals.ingest.inbound.tending import tend
from annals.server.clock import now_ms
from annals.server.compaction import keep_small
from annals.server.config import Config
from annals.server.fetching import wanted_follower
from annals.server.handshakes import handshake_runner
from annals.server.house import House, open_house
from annals.server.policy import policy_follower
from annals.server.switches import finish_switches

_COMMANDS, _COMPACTION, _QUARANTINE = "commands", "compaction", "quarantine"


async def run(config: Config) -> None:
    """Work until SIGTERM, from when the tables have all that was on the log at the start.

    After a crash of PostgreSQL each partition is folded again at its own pace: who saw the command of one, and not yet
    the rooms of another, would take for done what was never begun.
    """
    house = await open_house(config, "remote", threads=2)
    stopping = asyncio.create_task(_told_to_stop())
    serving = asyncio.create_task(house.until_serving())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
        await _work(config, house, stopping)
    serving.cancel()
    stopping.cancel()
    await house.close()


async def _told_to_stop() -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()


async def _work(config: Config, house: House, stopping: asyncio.Task[None]) -> None:
    name = f"remote-{secrets.token_hex(6)}"
    lease = OpsLease(house.database, _COMMANDS, name, now_ms)
    kinds: dict[str, Kind] = {
        FAN_OUT: ProfileFanOut(house.database, house.rooms),
        CREATE_ROOM: RoomCommandKind(house.creation.carry_out),
        UPGRADE_ROOM: RoomCommandKind(house.upgrades.carry_out),
    }
    worker = Worker(house.appender, house.database, kinds, lease)
    house.reached.subscribe(lambda notice: worker.wake() if notice.users or notice.everything else None)
    working = asyncio.create_task(worker.run())
    switches = asyncio.create_task(finish_switches(house.log, house.database))
    egress = Egress(house.peers.client, house.database, house.listener, house.log, config.server_name, name, now_ms)
    house.reached.subscribe(egress.moved)
    sending = asyncio.create_task(egress.run())
    small = asyncio.create_task(keep_small(house.log, OpsLease(house.database, _COMPACTION, name, now_ms)))
    gaps = asyncio.create_task(wanted_follower(house, name).run())
    policy = asyncio.create_task(policy_follower(house, name).run())
    retrier = QuarantineRetrier(house.log, house.appender, house.database, house.peers.pdus, now_ms)
    inbound = asyncio.create_task(
        tend(retrier, house.database, OpsLease(house.database, _QUARANTINE, name, now_ms), now_ms)
    )
    handshakes = asyncio.create_task(handshake_runner(house, name).run())
    await asyncio.wait((working, handshakes, stopping), return_when=asyncio.FIRST_COMPLETED)
    for task in (working, handshakes, inbound, gaps, policy, sending, small, switches):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    with suppress(Exception):
        await lease.release()
