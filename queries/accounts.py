"""Devices, filters and account data of a user, as its own clients read them."""

from __future__ import annotations

from dataclasses import dataclass

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.queries.plain import plain

_DEVICES_SQL = "SELECT device_id, display_name FROM devices WHERE user_id = %s ORDER BY device_id"
_DEVICE_SQL = "SELECT device_id, display_name FROM devices WHERE user_id = %s AND device_id = %s"
_FILTER_SQL = "SELECT definition FROM filters WHERE user_id = %s AND filter_id = %s"
_ACCOUNT_DATA_SQL = "SELECT content FROM account_data WHERE user_id = %s AND room_id = %s AND type = %s"


@dataclass(frozen=True, slots=True)
class Device:
    """A device of a user."""

    device_id: str
    display_name: str | None


class AccountReads:
    """Queries on accounts. Texts are JSON as it was stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def devices(self, user_id: str) -> list[Device]:
        """All devices of a user, by id."""
        rows = await self._database.read(lambda snapshot: snapshot.rows(_DEVICES_SQL, (user_id,)))
        return [_device(row) for row in rows]

    async def device(self, user_id: str, device_id: str) -> Device | None:
        """One device."""
        row = await self._database.read(lambda snapshot: snapshot.one(_DEVICE_SQL, (user_id, device_id)))
        return None if row is None else _device(row)

    async def filter(self, user_id: str, filter_id: str) -> bytes | None:
        """A filter's definition."""
        row = await self._database.read(lambda snapshot: snapshot.one(_FILTER_SQL, (user_id, filter_id)))
        return None if row is None else restore(row[0]).encode()

    async def account_data(self, user_id: str, room_id: str | None, type: str) -> bytes | None:
        """Account data of a user, of one room where `room_id` is given."""
        key = (user_id, room_id or "", type)

        def read(snapshot: Snapshot) -> bytes | None:
            row = snapshot.one(_ACCOUNT_DATA_SQL, key)
            return None if row is None else plain(row[0])

        return await self._database.read(read)


def _device(row: tuple[str, bytes | None]) -> Device:
    return Device(restore(row[0]), None if row[1] is None else plain(row[1]).decode())
