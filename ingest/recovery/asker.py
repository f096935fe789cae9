"""Unknown rooms, from the first PDU to the room: in the background of whoever takes transactions.

What comes while a room is being recovered is dropped like before; the gap that this leaves is filled as any other.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from annals.database.errors import DatabaseError
from annals.eventlog.errors import LogError
from annals.federation.errors import FederationError
from annals.ingest.handshakes.desk import Desk, Handshake
from annals.ingest.handshakes.errors import AttemptFailed
from annals.ingest.handshakes.joining import take_room
from annals.ingest.handshakes.templates import JOIN, Asked
from annals.ingest.recovery.claims import ASKED_FOR_MS, Claims
from annals.ingest.recovery.membership import Membership, membership, state_at
from annals.ingest.verification import Verified
from annals.matrix.room_versions import RoomRules
from annals.projectors.positions.errors import LogBehindTables, TryAgain
from annals.schemas.facts.rooms import MembershipAsked

#: More rooms than this wait for another event to name them.
AT_ONCE_MAX = 3
_REMEMBERED_MAX = 20_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pushed:
    """A PDU of a room that we do not know, and a way to hand it in once we do."""

    server: str
    room_id: str
    pdu: Any
    hand_in: Callable[[str, str, dict[str, Any]], Awaitable[object]]
    """(server, transaction id, transaction)."""


class RoomAsker:
    """Asks about rooms, and recovers them. One a process, on one event loop."""

    def __init__(self, desk: Desk, claims: Claims) -> None:
        self._desk, self._claims = desk, claims
        self._under_way: dict[str, asyncio.Task[None]] = {}
        # Rooms asked about by this process or another, and when that is forgotten: spares the tables a question each.
        self._asked: OrderedDict[str, int] = OrderedDict()

    def heard(self, pushed: Pushed) -> None:
        """A PDU came. Returns at once; does nothing where the room was asked about, or too much is under way."""
        if pushed.room_id in self._under_way or len(self._under_way) >= AT_ONCE_MAX:
            return
        if self._asked.get(pushed.room_id, 0) > self._desk.now_ms():
            return
        task = asyncio.get_running_loop().create_task(self._ask(pushed))
        self._under_way[pushed.room_id] = task
        task.add_done_callback(lambda _: self._under_way.pop(pushed.room_id, None))

    async def close(self) -> None:
        """Give up what is under way: it may be asked again after a while."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, pushed: Pushed) -> None:
        desk = self._desk
        try:
            may_ask = await self._claims.claim(pushed.room_id, pushed.server, desk.now_ms())
            self._remember(pushed.room_id)
            if not may_ask:
                return
            found = await membership(desk, pushed.server, pushed.room_id, pushed.pdu)
            await self._say(pushed, found)
            if found.join is not None and found.rules is not None:
                await self._try_to_recover(pushed, found.join, found.rules)
            await self._claims.answered(pushed.room_id, pushed.server, desk.now_ms())
        except (DatabaseError, LogError, TryAgain, LogBehindTables) as error:
            log.warning("room_not_asked_about", room=pushed.room_id, error=repr(error))
        except Exception:
            # No stranger's answer may end what others need.
            log.exception("room_not_asked_about", room=pushed.room_id)

    def _remember(self, room_id: str) -> None:
        # A quarter of the time only: the tables know better, and another process may have failed.
        self._asked[room_id] = self._desk.now_ms() + ASKED_FOR_MS // 4
        self._asked.move_to_end(room_id)
        while len(self._asked) > _REMEMBERED_MAX:
            self._asked.popitem(last=False)

    async def _say(self, pushed: Pushed, found: Membership) -> None:
        log.info("room_asked_about", room=pushed.room_id, server=pushed.server, found=found.reason)
        fact = MembershipAsked(
            envelope=self._desk.writer.envelope(),
            room_id=pushed.room_id,
            origin=pushed.server,
            event_id=found.event_id,
            member=found.user_id,
            reason=found.reason,
        )
        await self._desk.submit([fact])

    async def _try_to_recover(self, pushed: Pushed, join: Verified, rules: RoomRules) -> None:
        try:
            await self._recover(pushed, join, rules)
        except (FederationError, AttemptFailed) as error:
            log.warning("room_not_recovered", room=pushed.room_id, server=pushed.server, error=str(error))

    async def _recover(self, pushed: Pushed, join: Verified, rules: RoomRules) -> None:
        """The room as it was before our user joined, then the join, as if it had been answered to us now."""
        desk, event, server = self._desk, join.event, pushed.server
        answer = await state_at(desk, server, pushed.room_id, event.event_id)
        # No handshake is open by this id: it only names what the facts came by.
        recovery = Handshake(f"recovery.{desk.new_id()}", pushed.room_id, JOIN, event.sender, (server,), {})
        asked = Asked(pushed.room_id, event.sender, JOIN, server)
        await take_room(desk, recovery, asked, answer, rules, join)
        log.info("room_recovered", room=pushed.room_id, server=server, user=event.sender, events=len(answer.pdus))
        await pushed.hand_in(server, recovery.handshake_id, {"pdus": [pushed.pdu]})
