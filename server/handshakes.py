"""The runner of handshakes, as the process `remote` has it, and the asker after rooms of the process `api`."""

from __future__ import annotations

import secrets

from annals.commands.rooms.showing import Showing
from annals.database.leases import OpsLease
from annals.ingest.handshakes.desk import Desk, Handshake
from annals.ingest.handshakes.runner import Runner
from annals.ingest.handshakes.table import HandshakeTable
from annals.ingest.recovery.asker import RoomAsker
from annals.ingest.recovery.claims import Claims
from annals.projectors.notices import HANDSHAKES
from annals.server.clock import now_ms
from annals.server.house import House


def handshake_runner(house: House, process: str) -> Runner:
    """Put it together; `process` is a name that no other process has. It hears of new handshakes from now on."""
    table = HandshakeTable(house.database)
    showing = Showing(house.appender, house.database)

    async def joined(handshake: Handshake) -> None:
        # Whoever asked for it may have waited in vain, and looks at nothing any more.
        await showing.look_after(handshake.room_id, handshake.user_id, handshake.content, handshake.handshake_id)

    runner = Runner(_desk(house, table), table, lambda name: OpsLease(house.database, name, process, now_ms), joined)
    house.reached.subscribe(lambda notice: runner.wake() if notice.calls_for(HANDSHAKES) else None)
    return runner


def room_asker(house: House) -> RoomAsker:
    """Put it together."""
    return RoomAsker(_desk(house, HandshakeTable(house.database)), Claims(house.database))


def _desk(house: House, table: HandshakeTable) -> Desk:
    peers = house.peers
    return Desk(
        server_name=house.signer.server_name,
        key=house.signer.key,
        client=peers.client,
        pdus=peers.pdus,
        threads=peers.threads,
        writer=house.appender,
        now_ms=now_ms,
        new_id=lambda: secrets.token_hex(6),
        known_events=table.known_events,
    )
