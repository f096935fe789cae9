"""Who types and who is online, as this process hears it from the log; and when that is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import structlog

from annals.database.errors import DatabaseError
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.eventlog.api import Log, Record
from annals.eventlog.tail_thread import TailThread
from annals.matrix.presence import UNKNOWN, Presence
from annals.queries.sync.advice import EphemeralCount
from annals.queries.sync.notifier import Notifier
from annals.queries.sync.presence import Presences
from annals.queries.sync.typing import Typing
from annals.schemas.codec import decode
from annals.schemas.facts.ephemeral import PresenceSet, TypingSet

_logger = structlog.get_logger(__name__)

_EPHEMERAL = "ephemeral"
#: Of what was said before the start, so much is read.
_REPLAYED_MAX = 50_000
_STEP_S = 1.0
#: Presence wakes those who wait at once, and then again not before this.
_WAVE_S = 1.0
#: More waiting than this in a room are not woken for presence: they hear of it with their next answer.
WOKEN_MAX = 200
_ROOMS_SQL = """
    SELECT DISTINCT m.room_id FROM room_memberships m
    JOIN current_state cs ON cs.room_id = m.room_id AND cs.type = 'm.room.member' AND cs.state_key = m.user_id
    JOIN local_current_membership ours ON ours.room_id = m.room_id AND ours.membership = 'join'
    WHERE m.user_id = ANY (%s) AND m.membership = 'join' AND cs.membership = 'join'
"""


@dataclass(slots=True)
class Ephemerals:
    """What this process knows of topic `ephemeral`. `presences` None: presence is switched off."""

    clock: Callable[[], int]
    notifier: Notifier
    with_presence: bool
    count: EphemeralCount = field(default_factory=EphemeralCount)
    typing: Typing = field(init=False)
    presences: Presences | None = field(init=False)
    stirred: set[str] = field(default_factory=set)
    """Users whose presence changed, of whom nobody was told yet."""
    came: asyncio.Event = field(default_factory=asyncio.Event)
    reconsider: Callable[[Collection[str]], None] = field(default=lambda users: None)
    """Told of users of whom others said something, or of whom nobody says anything any more."""

    def __post_init__(self) -> None:
        self.typing = Typing(self.clock, self.count)
        self.presences = Presences(self.clock, self.count) if self.with_presence else None

    def take(self, records: list[Record]) -> None:
        """Records of the topic."""
        rooms = set()
        for record in records:
            fact = None if record.value is None else decode(record.value)
            if isinstance(fact, TypingSet):
                self.typing.apply(fact, record.offset)
                rooms.add(fact.room_id)
            elif isinstance(fact, PresenceSet):
                self.apply(fact, record.offset)
        if rooms:
            self.notifier.moved(rooms, ())

    def of(self, user_id: str) -> Presence:
        """A user's presence, as far as it was heard of."""
        return UNKNOWN if self.presences is None else self.presences.of(user_id)

    def reporter(self, user_id: str) -> str | None:
        """Who says that the user is there; None for who is offline."""
        return None if self.presences is None else self.presences.reporter(user_id)

    def apply(self, fact: PresenceSet, offset: int) -> None:
        """Somebody's presence was said; by ourselves, it may be heard of before the log gives it back."""
        if self.presences is not None and self.presences.apply(fact, offset):
            self.tell({fact.user_id})

    def tell(self, users: Collection[str]) -> None:
        """Their presence changed: wake who may see it, and see whether it is so."""
        self.stirred |= set(users)
        self.came.set()
        self.reconsider(users)

    def expire(self) -> None:
        """What nobody has said again for long enough is over."""
        if changed := self.typing.expire():
            self.notifier.moved(changed, ())
        if self.presences is not None and (gone := self.presences.expire()):
            self.tell(gone)


class EphemeralTail:
    """Follows topic `ephemeral`. Make it on the event loop whose clients are to be told."""

    def __init__(self, log: Log, ephemerals: Ephemerals, database: Database) -> None:
        end = log.end(_EPHEMERAL, 0)
        ephemerals.count.begin(end)
        loop = asyncio.get_running_loop()
        self._waves = asyncio.create_task(_wake_in_waves(ephemerals, database))
        start = {(_EPHEMERAL, 0): max(0, end - _REPLAYED_MAX)}
        self._thread = TailThread(log, start, loop, ephemerals.take, "ephemeral")

    def close(self) -> None:
        """End the thread; waits for it."""
        self._waves.get_loop().call_soon_threadsafe(self._waves.cancel)
        self._thread.close()


async def _wake_in_waves(ephemerals: Ephemerals, database: Database) -> None:
    """Wake those who share a room with users whose presence changed, until cancelled."""
    while True:
        await ephemerals.came.wait()
        ephemerals.came.clear()
        users, ephemerals.stirred = sorted(ephemerals.stirred), set()
        if ephemerals.notifier.anybody_waits:
            rooms = await _rooms_of(database, users)
            ephemerals.notifier.moved([room for room in rooms if ephemerals.notifier.waiting(room) <= WOKEN_MAX], ())
        await asyncio.sleep(_WAVE_S)


async def _rooms_of(database: Database, users: list[str]) -> list[str]:
    def read(snapshot: Snapshot) -> list[str]:
        return [restore(room_id) for (room_id,) in snapshot.rows(_ROOMS_SQL, (users,))]

    try:
        return await database.read(read)
    except DatabaseError as error:
        # Who waits hears of it with the next answer.
        _logger.warning("presence_not_told", error=repr(error))
        return []


async def expire_ephemerals(ephemerals: Ephemerals) -> None:
    """Tell when somebody types no more, or is gone, until cancelled."""
    while True:
        await asyncio.sleep(_STEP_S)
        ephemerals.expire()
