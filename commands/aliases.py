"""Room aliases and the published room directory.

An alias is a contended choice, decided by the order of the log: a claim has won where the alias's row has its offset.
"""

from __future__ import annotations

from typing import Any, Protocol

from annals.commands.errors import Refused
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.identifiers import domain_of, is_room_alias, is_room_id
from annals.projectors.positions.appending import Appender
from annals.schemas.facts.directory import AliasClaimed, AliasLapsed, AliasReleased, RoomPublished

_ALIAS_SQL = "SELECT room_id, creator, source FROM aliases WHERE alias = %s"
_ROOM_SQL = "SELECT 1 FROM rooms WHERE room_id = %s"
_MEMBERSHIP_SQL = "SELECT membership FROM local_current_membership WHERE room_id = %s AND user_id = %s"

CANONICAL_ALIAS = "m.room.canonical_alias"


class StatePower(Protocol):
    """What the room's current power levels say; pure reading, inside a snapshot."""

    def may_send_state(self, snapshot: Snapshot, room_id: str, user_id: str, event_type: str) -> bool:
        """Whether the user is joined and may send state of that type."""
        ...


class Aliases:
    """Commands on aliases of this server and on its list of published rooms."""

    def __init__(self, appender: Appender, database: Database, power: StatePower, server_name: str) -> None:
        self._appender, self._database, self._power, self._server_name = appender, database, power, server_name

    async def claim(self, alias: str, room_id: str, user_id: str, cause: str | None = None) -> None:
        """Point a free alias of ours to a room that the user is in. Refused: M_INVALID_PARAM, M_FORBIDDEN, 409."""
        self._check_own(alias)
        if not is_room_id(room_id):
            raise Refused(400, "M_INVALID_PARAM", "Not a room id")
        taken, membership = await self._database.read(
            lambda snapshot: (
                snapshot.one(_ALIAS_SQL, (alias,)),
                snapshot.one(_MEMBERSHIP_SQL, (room_id, user_id)),
            )
        )
        if taken is not None:
            raise _exists(alias)
        if membership is None or membership[0] != "join":
            raise Refused(403, "M_FORBIDDEN", "You must be in the room to create an alias for it")
        await self.claim_for_new_room(alias, room_id, user_id, cause)

    async def claim_for_new_room(self, alias: str, room_id: str, user_id: str, cause: str | None = None) -> None:
        """The same without a look at the room: for the builder, whose room is about to be made. Refused: 409.

        The same request again, under the same cause, finds the alias taken by its own room and is content.
        """
        self._check_own(alias)
        fact = AliasClaimed(self._appender.envelope(cause), alias, room_id, user_id)
        submitted = await self._appender.submit_and_settle([fact])
        row = await self._database.read(lambda snapshot: snapshot.one(_ALIAS_SQL, (alias,)))
        if row is None or (row[2] != submitted.offset() and (restore(row[0]), restore(row[1])) != (room_id, user_id)):
            raise _exists(alias)

    async def release(self, alias: str, user_id: str, is_admin: bool = False, cause: str | None = None) -> None:
        """Free an alias. Its creator may, who could change the room's canonical alias, and the server's admins.

        Refused: M_INVALID_PARAM, M_NOT_FOUND, M_FORBIDDEN.
        """
        self._check_own(alias)

        def read(snapshot: Snapshot) -> tuple[str, bool]:
            row = snapshot.one(_ALIAS_SQL, (alias,))
            if row is None:
                raise Refused(404, "M_NOT_FOUND", f"Room alias {alias} not found")
            room_id, creator = restore(row[0]), restore(row[1])
            allowed = is_admin or creator == user_id
            return room_id, allowed or self._power.may_send_state(snapshot, room_id, user_id, CANONICAL_ALIAS)

        room_id, allowed = await self._database.read(read)
        if not allowed:
            raise Refused(403, "M_FORBIDDEN", "You may not delete this alias")
        await self._appender.submit_and_settle([AliasReleased(self._appender.envelope(cause), alias, room_id, user_id)])

    async def move(self, alias: str, old_id: str, new_id: str, user_id: str, cause: str) -> None:
        """Point an alias of a room to the room that replaces it; one that points elsewhere by now stays as it is."""
        row = await self._database.read(lambda snapshot: snapshot.one(_ALIAS_SQL, (alias,)))
        if row is None or restore(row[0]) != old_id:
            return
        envelope = self._appender.envelope(cause)
        released = AliasReleased(envelope, alias, old_id, user_id)
        await self._appender.submit_and_settle([released, AliasClaimed(envelope, alias, new_id, restore(row[1]))])

    async def lapse(self, alias: str, room_id: str, reason: str) -> None:
        """Free an alias whose room never came; one that belongs to another room stays."""
        await self._appender.submit_and_settle([AliasLapsed(self._appender.envelope(), alias, room_id, reason)])

    async def publish(
        self, room_id: str, visibility: str, user_id: str, is_admin: bool = False, cause: str | None = None
    ) -> None:
        """List a room ("public"), or take it off the list ("private"). Refused: M_INVALID_PARAM, M_NOT_FOUND,
        M_FORBIDDEN."""
        if visibility not in ("public", "private"):
            raise Refused(400, "M_INVALID_PARAM", "visibility must be public or private")

        def read(snapshot: Snapshot) -> bool:
            if snapshot.one(_ROOM_SQL, (room_id,)) is None:
                raise Refused(404, "M_NOT_FOUND", "Room not found")
            return is_admin or self._power.may_send_state(snapshot, room_id, user_id, CANONICAL_ALIAS)

        if not await self._database.read(read):
            raise Refused(403, "M_FORBIDDEN", "You may not change this room's visibility")
        await self._appender.submit_and_settle(
            [RoomPublished(self._appender.envelope(cause), room_id, user_id, visibility)]
        )

    def _check_own(self, alias: Any) -> None:
        if not is_room_alias(alias):
            raise Refused(400, "M_INVALID_PARAM", "Not a room alias")
        if domain_of(alias) != self._server_name:
            raise Refused(400, "M_INVALID_PARAM", "The alias is not of this server")


def _exists(alias: str) -> Refused:
    return Refused(409, "M_UNKNOWN", f"Room alias {alias} already exists.")
