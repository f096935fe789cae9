"""Changing a profile.

A field of a profile is a fact of its user. What members of rooms see of it (display name and avatar) stands in a member
event of each room too: a command over several keys, whose start is on the log, in the same append as the change, before
the client hears of success. The worker of `remote` does the rest, whatever dies meanwhile (worker.py). Rooms that the
user comes into between the list in its plan and the change are found when it runs (profile_fan_out.py).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from annals.commands.errors import Refused
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.errors import NotCanonical
from annals.matrix.identifiers import is_namespaced
from annals.projectors.positions.appending import Appender
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.users import CommandStarted, ProfileFieldSet

PROFILE_BYTES_MAX = 64 * 1024
KEY_BYTES_MAX = 255
# A member event holds both, beside much else, and has 64 KiB.
MEMBER_FIELD_BYTES_MAX = 1024

#: The kind of the command that carries a change into the user's rooms.
FAN_OUT = "profile"
#: The fields that member events have.
MEMBER_FIELDS = frozenset(["displayname", "avatar_url"])

# A plan must fit into a record: a user of more rooms gets several commands.
ROOMS_PER_COMMAND = 500

_SIZES_SQL = "SELECT field, length(field) + length(value) FROM profiles WHERE user_id = %s"
_JOINED_SQL = """
    SELECT room_id FROM local_current_membership WHERE user_id = %s AND membership = 'join' ORDER BY room_id
"""


class Profiles:
    """Commands on profiles."""

    def __init__(self, appender: Appender, database: Database) -> None:
        self._appender, self._database = appender, database

    async def set_field(self, user_id: str, field: str, value: Any, cause: str | None = None) -> None:
        """Set a field to a JSON value. Refused: M_INVALID_PARAM, M_KEY_TOO_LARGE, M_BAD_JSON, M_PROFILE_TOO_LARGE."""
        check_field(field)
        text = _text_of(field, value)
        sizes, rooms = await self._database.read(lambda snapshot: _sizes_and_rooms(snapshot, user_id, field))
        # "the total profile MUST be under 64 KiB"
        others = sum(size for name, size in sizes.items() if name != field)
        if others + len(field) + len(text) >= PROFILE_BYTES_MAX:
            raise Refused(400, "M_PROFILE_TOO_LARGE", "The profile would exceed 64 KiB")
        await self._change(user_id, field, text, rooms, cause)

    async def remove_field(self, user_id: str, field: str, cause: str | None = None) -> None:
        """Remove a field, whether or not it is there. Refused: M_INVALID_PARAM, M_KEY_TOO_LARGE."""
        check_field(field)
        _, rooms = await self._database.read(lambda snapshot: _sizes_and_rooms(snapshot, user_id, field))
        await self._change(user_id, field, None, rooms, cause)

    async def _change(self, user_id: str, field: str, text: bytes | None, rooms: list[str], cause: str | None) -> None:
        envelope = self._appender.envelope(cause)
        facts: list[Fact] = [ProfileFieldSet(envelope, user_id, field, text)]
        if field in MEMBER_FIELDS:
            about = {"field": field, "value": None if text is None else json.loads(text)}
            starts = range(0, max(1, len(rooms)), ROOMS_PER_COMMAND)
            parts = [rooms[start : start + ROOMS_PER_COMMAND] for start in starts]
            facts += [fan_out(envelope, user_id, part, **about) for part in parts[:-1]]
            facts.append(fan_out(envelope, user_id, parts[-1], **about, rest=True))
        await self._appender.submit_and_settle(facts)


def fan_out(envelope: Envelope, user_id: str, rooms: Sequence[str], **about: Any) -> CommandStarted:
    """Rooms are to show what the user's profile says by then.

    `about`: what else the plan says; `rest=True`: so are all others that the user is in by then.
    """
    plan = {**about, "rooms": list(rooms)}
    return CommandStarted(envelope, user_id, secrets.token_hex(8), FAN_OUT, json.dumps(plan).encode())


def check_field(field: str) -> None:
    """Refuse a name that no profile field can have: M_KEY_TOO_LARGE, M_INVALID_PARAM."""
    if len(field.encode("utf-8")) > KEY_BYTES_MAX:
        raise Refused(400, "M_KEY_TOO_LARGE", f"A profile field's name has at most {KEY_BYTES_MAX} bytes")
    # "avatar_url, displayname, m.tz, or a custom field following the Common Namespaced Identifier Grammar"
    if field not in MEMBER_FIELDS and not (is_namespaced(field) and "." in field):
        raise Refused(400, "M_INVALID_PARAM", "Invalid profile field name")


def _text_of(field: str, value: Any) -> bytes:
    if field in (*MEMBER_FIELDS, "m.tz"):
        if not isinstance(value, str):
            raise Refused(400, "M_BAD_JSON", f"{field} must be a string")
        if len(value.encode("utf-8")) > MEMBER_FIELD_BYTES_MAX:
            raise Refused(400, "M_INVALID_PARAM", f"{field} has at most {MEMBER_FIELD_BYTES_MAX} bytes")
    try:
        return canonical_bytes(value)
    except NotCanonical as error:
        raise Refused(400, "M_BAD_JSON", str(error)) from None


def _sizes_and_rooms(snapshot: Snapshot, user_id: str, field: str) -> tuple[dict[str, int], list[str]]:
    sizes = {restore(name): size for name, size in snapshot.rows(_SIZES_SQL, (user_id,))}
    if field not in MEMBER_FIELDS:
        return sizes, []
    return sizes, [restore(room_id) for (room_id,) in snapshot.rows(_JOINED_SQL, (user_id,))]
