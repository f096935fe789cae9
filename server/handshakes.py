"""The runner of handshakes, as the process `remote` has it."""

from __future__ import annotations

import secrets

from annals.database.leases import OpsLease
from annals.ingest.handshakes.desk import Desk
from annals.ingest.handshakes.runner import Runner
from annals.ingest.handshakes.table import HandshakeTable
from annals.server.clock import now_ms
from annals.server.house import House


def handshake_runner(house: House, process: str) -> Runner:
    """Put it together; `process` is a name that no other process has. It hears of new handshakes from now on."""
    peers, table = house.peers, HandshakeTable(house.database)
    desk = Desk(
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
    runner = Runner(desk, table, lambda name: OpsLease(house.database, name, process, now_ms))
    house.reached.subscribe(lambda notice: runner.wake() if notice.rooms or notice.everything else None)
    return runner
