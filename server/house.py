"""What `api` and `remote` have in common: the log, the tables, and the commands over both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from annals.commands.aliases import Aliases
from annals.commands.rooms.builder import Builders, Workshop
from annals.commands.rooms.creating import RoomCreation
from annals.commands.rooms.drafts import Drafts
from annals.commands.rooms.handshakes import Handshakes
from annals.commands.rooms.inheritance import Inheritance
from annals.commands.rooms.inviting import OutgoingInvites
from annals.commands.rooms.power import RoomPower
from annals.commands.rooms.service import Rooms
from annals.commands.rooms.showing import Showing
from annals.commands.rooms.tables import PostgresRoomTables
from annals.commands.rooms.upgrading import Upgrades
from annals.database.errors import TablesBehind
from annals.database.listen import Listener
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.egress.heard import FAILING_CHANNEL, HEARD_CHANNEL
from annals.eventlog.api import Log, TopicPartition
from annals.projectors.errors import LogWentBack
from annals.projectors.notices import CHANNEL, Notice
from annals.projectors.positions.appending import Appender
from annals.projectors.positions.reached import Reached
from annals.projectors.positions.read import covers, lags, projected_ends, vector_of
from annals.queries.federation.joining import RoomAnswers
from annals.rooms.heads import Signer
from annals.server.clock import now_ms
from annals.server.config import Config, database_url
from annals.server.keys import load_signing_key
from annals.server.log_setup import begin_log, open_log
from annals.server.peers import Peers, open_peers
from annals.server.remote_invites import remote_inviter
from annals.server.version import VERSION

_logger = structlog.get_logger(__name__)

#: Readiness: how many records the tables may be behind the log.
LAG_MAX = 1_000
#: Who waits for the tables says so each time that so much has passed.
SAY_AGAIN_S = 30.0


@dataclass(slots=True)
class House:
    """One process's share of a server. Make it with `open_house`, on the event loop that is to use it."""

    log: Log
    database: Database
    listener: Listener
    reached: Reached
    appender: Appender
    builders: Builders
    drafts: Drafts
    outgoing: OutgoingInvites
    creation: RoomCreation
    upgrades: Upgrades
    aliases: Aliases
    rooms: Rooms
    signer: Signer
    peers: Peers
    #: the log's ends at the start of the process: until the tables have them, nothing is answered from tables
    starting_ends: Mapping[TopicPartition, int]
    _caught_up: bool = False

    def serving(self) -> bool:
        """Whether the tables have had, once, all that was on the log when the process started."""
        if not self._caught_up:
            self._caught_up = covers(self.reached.known, self.starting_ends)
        return self._caught_up

    async def until_serving(self) -> None:
        """Wait until `serving`, however long that takes, and say every half minute that it is not so yet."""
        while not self.serving():
            # Of what was there at the start. The log is not asked again: it may be away, and its answer takes time.
            lacked = [end - self.reached.known.get(which, 0) for which, end in self.starting_ends.items()]
            _logger.info("waits_for_tables", records=sum(records for records in lacked if records > 0))
            await self.reached.reached(self.starting_ends, SAY_AGAIN_S)

    async def readiness(self) -> str | None:
        """None when ready, else why not."""
        if not self.serving():
            return "the tables have not reached the log yet"
        behind = sum(lags(self.log, self.reached.known).values())
        return f"the tables are {behind} records behind the log" if behind > LAG_MAX else None

    async def close(self) -> None:
        """Let go of everything."""
        await self.peers.close()
        await self.reached.close()
        await self.listener.close()
        self.database.close()
        self.log.close()


async def open_house(config: Config, writer: str, threads: int = 4) -> House:
    """Open log and tables and put the commands together."""
    log = open_log(config)
    begin_log(log, config.server_name)
    database = Database(database_url(config), threads)
    listener = Listener(database.url, [CHANNEL, FAILING_CHANNEL, HEARD_CHANNEL])
    await listener.start()
    reached = Reached(database, listener)
    await reached.start()
    database.guard_reads(lambda: _expecting(reached))
    appender = Appender(log, reached, now_ms, VERSION, writer, wait_s=config.tables_wait_s)
    signer = Signer(config.server_name, load_signing_key(config.signing_key_path))
    peers = open_peers(config, signer, appender, database, now_ms)
    workshop = Workshop(appender, PostgresRoomTables(database), signer, now_ms, peers.policy)
    builders, drafts = Builders(workshop), Drafts(workshop)
    aliases = Aliases(appender, database, RoomPower(), config.server_name)
    outgoing = OutgoingInvites(drafts, builders, remote_inviter(peers, RoomAnswers(database, config.server_name)))
    showing = Showing(appender, database)
    creation = RoomCreation(appender, builders, aliases, signer, outgoing, showing)
    version = config.default_room_version
    handshakes = Handshakes(appender, database, config.server_name, reached.subscribe)
    upgrades = Upgrades(creation, builders, aliases, database, RoomPower())
    rooms = Rooms(
        *(appender, database, builders, creation, outgoing, config.server_name, version),
        *(handshakes, upgrades, Inheritance(appender, database), showing),
    )
    reached.subscribe(lambda notice: _tell_builders(builders, notice))
    known = dict(reached.known)
    ends = projected_ends(log)
    for (topic, partition), offset in known.items():
        # Whoever wrote to such a log would be answered with the outcome of another fact.
        if offset > ends.get((topic, partition), 0):
            raise LogWentBack(topic, partition, f"the tables are at {offset}, the log ends before")
    return House(
        *(log, database, listener, reached, appender, builders, drafts, outgoing),
        *(creation, upgrades, aliases, rooms, signer, peers, ends),
    )


def _expecting(reached: Reached) -> Callable[[Snapshot], None]:
    """Tables that a crash of PostgreSQL set back must not answer: who logged in since then would hear 401."""
    generation, known = reached.generation, dict(reached.known)

    def refuse_if_behind(snapshot: Snapshot) -> None:
        if snapshot.generation == generation and not covers(vector_of(snapshot.positions), known):
            raise TablesBehind("the tables were set back, and are being folded again")

    return refuse_if_behind


def _tell_builders(builders: Builders, notice: Notice) -> None:
    if notice.switched:
        builders.all_moved()
    for room_id in notice.rooms:
        builders.room_moved(room_id, notice.heads.get(room_id))
