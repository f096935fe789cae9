"""What a user's clients keep here: filters and account data."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

from annals.commands.errors import Refused
from annals.database.pool import Database
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.errors import NotCanonical
from annals.projectors.positions.appending import Appender
from annals.schemas.facts.users import AccountDataSet, FilterAdded

# A record holds at most 64 KiB and a small envelope.
CONTENT_BYTES_MAX = 60 * 1024
TYPE_BYTES_MAX = 255

# "The server MUST reject account data types that the server manages": no client sets these.
MANAGED_TYPES = frozenset(["m.fully_read", "m.push_rules"])

_FILTER_SQL = "SELECT 1 FROM filters WHERE user_id = %s AND filter_id = %s"


class UserData:
    """Commands on filters and account data."""

    def __init__(self, appender: Appender, database: Database) -> None:
        self._appender, self._database = appender, database

    async def add_filter(self, user_id: str, definition: dict[str, Any], cause: str | None = None) -> str:
        """Keep a filter; its id, which the same definition gets again. Refused: M_TOO_LARGE, M_BAD_JSON."""
        text = _text_of(definition)
        # Not a bare number: "the filter ID is opaque", and must not begin with "{" or /sync would take it for a filter.
        filter_id = urlsafe_b64encode(sha256(text).digest()[:12]).decode()
        known = await self._database.read(lambda snapshot: snapshot.one(_FILTER_SQL, (user_id, filter_id)))
        if known is None:
            await self._appender.submit_and_settle(
                [FilterAdded(self._appender.envelope(cause), user_id, filter_id, text)]
            )
        return filter_id

    async def set_account_data(
        self, user_id: str, room_id: str | None, type: str, content: dict[str, Any], cause: str | None = None
    ) -> None:
        """Set account data of a user, of one room where `room_id` is given. Refused: M_BAD_JSON (405, for types that
        the server manages), M_TOO_LARGE, M_INVALID_PARAM."""
        if type in MANAGED_TYPES:
            raise Refused(405, "M_BAD_JSON", f"Cannot set {type} through this API.")
        if len(type.encode("utf-8")) > TYPE_BYTES_MAX:
            raise Refused(400, "M_INVALID_PARAM", f"A type has at most {TYPE_BYTES_MAX} bytes")
        text = _text_of(content)
        await self._appender.submit_and_settle(
            [AccountDataSet(self._appender.envelope(cause), user_id, room_id, type, text)]
        )


def _text_of(value: dict[str, Any]) -> bytes:
    try:
        text = canonical_bytes(value)
    except NotCanonical as error:
        raise Refused(400, "M_BAD_JSON", str(error)) from None
    if len(text) > CONTENT_BYTES_MAX:
        raise Refused(413, "M_TOO_LARGE", f"At most {CONTENT_BYTES_MAX} bytes")
    return text
