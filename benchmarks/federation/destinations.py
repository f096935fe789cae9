"""`python -m benchmarks.federation.destinations`: what 9,000 dead servers cost the 1,000 living ones of the same room.

Our sender over real tables, with a client that is a script: the living answer in 5 ms, the dead never do, and time out
after 10 s as a connection does. The same is said twice: in a room of the living alone, and in one of both. Printed for
each: how long until the living have the first message ever (nobody knows yet who lives), and then each of 20 more, said
one after the other; and the ratio, which is 1 where the dead cost nothing. No network, no signatures.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from annals.database.listen import Listener
from annals.database.migrate import migrate
from annals.egress.heard import HEARD_CHANNEL
from annals.egress.service import Egress
from annals.eventlog.embedded import open_embedded
from annals.federation.errors import Unreachable
from annals.matrix.identifiers import domain_of
from annals.schemas.topics import TOPICS, decisions_topic
from annals.server.clock import now_ms
from annals.server.embedded_postgres import EmbeddedPostgres
from tests.support.rooms import SERVER, Driver
from tests.support.sync_world import World, sync_world

LIVING, DEAD, MESSAGES = 1_000, 9_000, 20
ANSWER_S, TIMEOUT_S = 0.005, 10.0
_MEMBERS_SQL = """
    INSERT INTO g1.current_state
    SELECT %s, 'm.room.member', user_id, '$' || user_id, 'join', %s, 0, 0 FROM unnest(%s::text[]) AS u(user_id)
"""


@dataclass
class Servers:
    """Ten thousand servers. `got`: how many of the living have the message so far, by its text."""

    got: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    all_have: defaultdict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    living: int = LIVING
    refused: int = 0
    under_way: int = 0
    most_under_way: int = 0

    async def put(self, server: str, path: str, content: dict[str, Any], *, timeout_s: float | None = None) -> Any:
        """See Client."""
        if server.startswith("dead"):
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            try:
                await asyncio.sleep(TIMEOUT_S)
            finally:
                self.under_way -= 1
            self.refused += 1
            raise Unreachable(server, "it is dead")
        await asyncio.sleep(ANSWER_S)
        for pdu in content["pdus"]:
            body = pdu["content"].get("body")
            self.got[body] += 1
            if self.got[body] == self.living:
                self.all_have[body].set()
        return {"pdus": {}}


@dataclass(frozen=True)
class Figures:
    """Seconds until all the living have the first message, and the median of the others. `most_dead`: at one moment."""

    first_s: float
    median_s: float
    longest_s: float
    tried_dead: int
    most_dead: int


def room_of(world: World, servers: Sequence[str]) -> Driver:
    """A room with a member of each server. They are rows only: nobody decides their joins here."""
    room = world.room()
    users = [f"@u:{server}" for server in servers]
    [[partition]] = world.database.read_now(
        lambda snapshot: snapshot.rows("SELECT partition FROM rooms WHERE room_id = %s", (room.room_id,))
    )
    world.database.write_now(lambda statements: statements.execute(_MEMBERS_SQL, (room.room_id, partition, users)))
    assert {domain_of(user_id) for user_id in users} == set(servers)
    return room


async def measured(world: World, room: Driver, owner: str, count: int) -> Figures:
    servers = Servers(living=count)
    listener = Listener(world.database.url, [HEARD_CHANNEL])
    await listener.start()
    egress = Egress(servers, world.database, listener, world.log, SERVER, owner, now_ms)
    sending = asyncio.create_task(egress.run())
    async with asyncio.timeout(60):
        while egress.sender is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    took_s = []
    for number in range(MESSAGES + 1):
        began_s, body = time.monotonic(), f"{owner} {number}"
        world.say(room, "alice", body)
        egress.wake()
        async with asyncio.timeout(600):
            await servers.all_have[body].wait()
        took_s.append(time.monotonic() - began_s)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await listener.close()
    return Figures(took_s[0], statistics.median(took_s[1:]), max(took_s[1:]), servers.refused, servers.most_under_way)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.federation.destinations")
    parser.add_argument("--living", type=int, default=LIVING)
    parser.add_argument("--dead", type=int, default=DEAD)
    chosen = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    living = [f"living{number}.example" for number in range(chosen.living)]
    dead = [f"dead{number}.example" for number in range(chosen.dead)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        postgres = EmbeddedPostgres(Path(folder) / "postgres", settings={"fsync": "off"})
        postgres.start()
        log = open_embedded(Path(folder) / "log")
        try:
            url = postgres.url()
            migrate(url, "g1")
            log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
            with sync_world(log, url) as world:
                rooms = room_of(world, living), room_of(world, [*dead, *living])
                alone = asyncio.run(measured(world, rooms[0], "alone", chosen.living))
                # Nobody knows any more who lives.
                world.database.write_now(lambda statements: statements.execute("DELETE FROM ops.destinations"))
                both = asyncio.run(measured(world, rooms[1], "both", chosen.living))
        finally:
            log.close()
            postgres.stop()
    print("| room of | first message (s) | 20 more, median (s) | longest (s) | time-outs meanwhile | dead at once |")
    print("|---|---|---|---|---|---|")
    for name, found in (
        (f"{chosen.living:,} living", alone),
        (f"{chosen.living:,} living, {chosen.dead:,} dead", both),
    ):
        print(
            f"| {name} | {found.first_s:.2f} | {found.median_s:.3f} | {found.longest_s:.3f} | {found.tried_dead} "
            f"| {found.most_dead} |"
        )
    print(f"| ratio | {both.first_s / alone.first_s:.1f} | {both.median_s / alone.median_s:.2f} | | | |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
