"""Rooms that this server is not in: what its users want of them is begun here, carried out by the process `remote`.

    HandshakeStarted ─▶ open row ─▶ … ─▶ HandshakeEnded ─▶ the row's outcome is the answer

Who asks for the same again while it is open waits for the same handshake.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from annals.commands.errors import Refused, TryAgain
from annals.commands.rooms.standing import SERVERS_MAX, Standing, standing_of
from annals.database.pool import Database
from annals.database.text import restore
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.errors import NotCanonical
from annals.matrix.identifiers import is_server_name
from annals.projectors.notices import HANDSHAKES
from annals.projectors.positions.appending import Appender
from annals.schemas.facts.rooms import HandshakeStarted

#: How long a request waits; the handshake goes on after that, and the next request attaches to it.
WAIT_S = 60.0
# Notices wake; this is for one that got lost.
_LOOK_S = 5.0

_OPEN_SQL = """
    SELECT handshake_id FROM handshakes WHERE room_id = %s AND user_id = %s AND kind = %s AND outcome IS NULL LIMIT 1
"""
_OUTCOME_SQL = """
    SELECT outcome, http_status, errcode, reason FROM handshakes WHERE room_id = %s AND handshake_id = %s
"""


class Moved(Protocol):
    """What is said of a commit (projectors.notices)."""

    @property
    def rooms(self) -> frozenset[str]:
        """Rooms of which something changed."""
        ...

    @property
    def everything(self) -> bool:
        """Any room may have changed."""
        ...

    def calls_for(self, errand: str) -> bool:
        """Whether there may be something to do of that kind."""
        ...


Subscribe = Callable[[Callable[[Moved], None]], Callable[[], None]]
"""Has a function called with every notice; what it gives ends that."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a handshake ended, if not by a refusal. `attached`: with another user's; the room is ours to join now."""

    attached: bool


class Handshakes:
    """Begins handshakes and waits for them."""

    def __init__(
        self, appender: Appender, database: Database, server_name: str, subscribe: Subscribe, wait_s: float = WAIT_S
    ) -> None:
        self._appender, self._database, self._server_name = appender, database, server_name
        self._subscribe, self._wait_s = subscribe, wait_s

    async def standing(self, room_id: str, user_id: str) -> Standing:
        """What the tables say of a room and a user, as far as this server needs others for it."""
        return await self._database.read(lambda snapshot: standing_of(snapshot, room_id, user_id, self._server_name))

    async def carry_out(
        self,
        kind: str,
        room_id: str,
        user_id: str,
        servers: Sequence[str],
        content: Mapping[str, Any],
        cause: str,
    ) -> Ended:
        """Begin a handshake, or attach to the open one, and wait for its end.

        Refused: what the servers said. TryAgain: it is not through yet.
        """
        found = await self._database.read(lambda snapshot: snapshot.one(_OPEN_SQL, (room_id, user_id, kind)))
        handshake_id = restore(found[0]) if found else secrets.token_urlsafe(12)
        if found is None:
            await self._begin(kind, room_id, user_id, handshake_id, servers, content, cause)
        return await self._ended(room_id, handshake_id)

    async def _begin(
        self,
        kind: str,
        room_id: str,
        user_id: str,
        handshake_id: str,
        servers: Sequence[str],
        content: Mapping[str, Any],
        cause: str,
    ) -> None:
        named = dict.fromkeys(server for server in servers if is_server_name(server))
        named.pop(self._server_name, None)
        # Who rejects an invite must not be kept because nobody is there to ask.
        if not named and kind != "leave":
            raise Refused(404, "M_NOT_FOUND", "Unknown room, and no server that is in it was named")
        try:
            text = canonical_bytes(dict(content))
        except NotCanonical as error:
            raise Refused(400, "M_BAD_JSON", str(error)) from error
        fact = HandshakeStarted(
            envelope=self._appender.envelope(cause),
            room_id=room_id,
            handshake_id=handshake_id,
            kind=kind,
            user_id=user_id,
            servers=tuple(named)[:SERVERS_MAX],
            content=text,
        )
        await self._appender.submit_and_settle([fact])

    async def _ended(self, room_id: str, handshake_id: str) -> Ended:
        moved = asyncio.Event()

        def hear(notice: Moved) -> None:
            # A large room comes in many commits, of which the last one ends the handshake.
            if notice.calls_for(HANDSHAKES) and (notice.everything or room_id in notice.rooms):
                moved.set()

        end_hearing = self._subscribe(hear)
        try:
            async with asyncio.timeout(self._wait_s):
                while True:
                    moved.clear()
                    row = await self._database.read(lambda s: s.one(_OUTCOME_SQL, (room_id, handshake_id)))
                    if row is not None and row[0] is not None:
                        return _answer(row)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_S):
                            await moved.wait()
        except TimeoutError:
            raise TryAgain("the servers of the room have not answered yet") from None
        finally:
            end_hearing()


def _answer(row: tuple[Any, ...]) -> Ended:
    outcome, status, errcode, reason = row
    if outcome == "failed":
        raise Refused(status or 502, restore(errcode or "M_UNKNOWN"), restore(reason or "The room cannot be reached"))
    return Ended(attached=outcome == "attached")
