"""Replacing a room by one of another version: a command over several keys, like the making of a room (creating.py).

CommandStarted ─▶ new room ─▶ aliases moved ─▶ tombstone in the old one ─▶ who was banned ─▶ the old one closed
                                                                                          ─▶ CommandFinished
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import structlog

from annals.commands.aliases import CANONICAL_ALIAS, Aliases, StatePower
from annals.commands.errors import Refused
from annals.commands.rooms.builder import Builders
from annals.commands.rooms.creating import RoomCreation
from annals.commands.rooms.plans import Plan, Send
from annals.commands.rooms.reading import MEMBER
from annals.commands.rooms.replacement import (
    CREATE,
    POWER_LEVELS,
    OldRoom,
    closing_levels,
    create_content_of,
    state_of,
)
from annals.commands.rooms.sending import send
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.room_versions import RoomRules
from annals.projectors.rooms.read import shown_event
from annals.rooms.heads import Intent

UPGRADE_ROOM = "upgrade_room"
TOMBSTONE = "m.room.tombstone"
#: Of who was banned, as many are banned in the new room: so that a room of any size can be replaced.
BANS_MAX = 1_000
_BANS_AT_ONCE = 50
_log = structlog.get_logger(__name__)

_STATE_SQL = """
    SELECT cs.type, cs.state_key, e.event_id, e.room_version, e.client_json, e.redacted_by IS NOT NULL
    FROM current_state cs JOIN events e ON e.room_id = cs.room_id AND e.event_id = cs.event_id
    WHERE cs.room_id = %s AND cs.type <> 'm.room.member'
"""
_LAST_SQL = "SELECT event_id FROM forward_extremities WHERE room_id = %s ORDER BY event_id LIMIT 1"
_BANNED_SQL = """
    SELECT state_key FROM current_state WHERE room_id = %s AND type = 'm.room.member' AND membership = 'ban'
    ORDER BY state_key LIMIT %s
"""
_ALIASES_SQL = "SELECT alias FROM aliases WHERE room_id = %s ORDER BY alias"
_PUBLISHED_SQL = "SELECT 1 FROM published_rooms WHERE room_id = %s"


class Upgrades:
    """Starts and carries out commands of kind `upgrade_room`."""

    def __init__(
        self, creation: RoomCreation, builders: Builders, aliases: Aliases, database: Database, power: StatePower
    ) -> None:
        self._creation, self._builders, self._aliases = creation, builders, aliases
        self._database, self._power = database, power

    async def upgrade(
        self,
        room_id: str,
        user_id: str,
        rules: RoomRules,
        additional_creators: Sequence[str],
        profile: Mapping[str, Any],
        cause: str,
    ) -> str:
        """Replace the room; the new one's id. `profile`: what the user's member event shows.

        Refused: M_NOT_FOUND, M_FORBIDDEN (who may not send a tombstone), M_INVALID_PARAM, M_INVALID_ROOM_STATE.
        """
        old, aliases, is_published = await self._database.read(lambda snapshot: self._look(snapshot, room_id, user_id))
        content = create_content_of(old, user_id, additional_creators, rules)
        create = self._creation.create_event(user_id, content, rules)
        creators = {user_id, *content.get("additional_creators", ())}
        plan = {
            "room_id": create.room_id,
            "room_version": rules.version,
            "create": {"event_id": create.event_id, "pdu": create.pdu},
            "state": [
                [MEMBER, user_id, {**profile, "membership": "join"}],
                *state_of(old, user_id, creators, rules),
            ],
            "alias": None,
            "published": is_published,
            "replaces": room_id,
            "aliases": aliases,
            "canonical_alias": dict(old.content(CANONICAL_ALIAS)) or None,
            "closing_levels": closing_levels(old),
        }
        await self._creation.run(user_id, UPGRADE_ROOM, plan, cause, self.carry_out)
        return create.room_id

    def _look(self, snapshot: Snapshot, room_id: str, user_id: str) -> tuple[OldRoom, list[str], bool]:
        state = {
            (restore(kind), restore(key)): shown_event(restore(text), version, restore(event_id), redacted=redacted)
            for kind, key, event_id, version, text, redacted in snapshot.rows(_STATE_SQL, (room_id,))
        }
        create = state.get((CREATE, ""))
        if create is None:
            raise Refused(404, "M_NOT_FOUND", "Unknown room")
        # "Checks that the user has permission to send `m.room.tombstone` events in the room."
        if not self._power.may_send_state(snapshot, room_id, user_id, TOMBSTONE):
            raise Refused(403, "M_FORBIDDEN", "You cannot upgrade this room")
        last = snapshot.one(_LAST_SQL, (room_id,))
        old = OldRoom(room_id, create.rules, state, restore(last[0]) if last else None)
        aliases = [restore(alias) for (alias,) in snapshot.rows(_ALIASES_SQL, (room_id,))]
        return old, aliases, snapshot.one(_PUBLISHED_SQL, (room_id,)) is not None

    async def carry_out(self, user_id: str, command_id: str, plan: Mapping[str, Any]) -> None:
        """Do every step that is not done yet; raises Refused where the room cannot be made, or not be ended."""
        await self._creation.carry_out(user_id, command_id, plan)
        old_id, new_id = plan["replaces"], plan["room_id"]
        for alias in plan["aliases"]:
            await self._aliases.move(alias, old_id, new_id, user_id, command_id)
        if plan["published"]:
            await self._aliases.publish(old_id, "private", user_id, is_admin=True, cause=command_id)

        def state(room_id: str, kind: str, content: dict[str, Any]) -> Awaitable[object]:
            return self._builders.carry_out(
                room_id, send(Intent(user_id, kind, content, "", None, f"{command_id}:{kind}", command_id))
            )

        await state(old_id, TOMBSTONE, {"body": "This room has been replaced", "replacement_room": new_id})
        # "If possible": the room is replaced, whatever comes of the rest.
        await _if_allowed(self._ban(user_id, command_id, old_id, new_id))
        if plan["canonical_alias"]:
            await _if_allowed(state(new_id, CANONICAL_ALIAS, plan["canonical_alias"]))
        if plan["closing_levels"]:
            await _if_allowed(state(old_id, POWER_LEVELS, plan["closing_levels"]))

    async def _ban(self, user_id: str, command_id: str, old_id: str, new_id: str) -> None:
        """Ban in the new room who is banned in the old one, or the replacement would be a way back in."""
        rows = await self._database.read(lambda snapshot: snapshot.rows(_BANNED_SQL, (old_id, BANS_MAX)))
        banned = [restore(target) for (target,) in rows]
        for begin in range(0, len(banned), _BANS_AT_ONCE):
            wishes = tuple(
                Intent(user_id, MEMBER, {"membership": "ban"}, target, None, f"{command_id}:ban:{target}", command_id)
                for target in banned[begin : begin + _BANS_AT_ONCE]
            )
            await self._builders.carry_out(new_id, _all_of(wishes))


def _all_of(wishes: tuple[Intent, ...]) -> Plan:
    return lambda _view: Send(wishes)


async def _if_allowed(step: Awaitable[object]) -> None:
    try:
        await step
    except Refused as refused:
        _log.info("upgrade_step_refused", reason=refused.reason)
