"""Devices of our users, as other servers may know them. Of users of other servers nothing is told (security row 36).

This server keeps no keys of devices yet: it has devices without any.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.projectors.positions.read import vector_of

_USERS_SQL = "SELECT user_id FROM accounts WHERE user_id = ANY (%s) AND NOT deactivated"
_ACCOUNT_SQL = "SELECT partition FROM accounts WHERE user_id = %s AND NOT deactivated"
_DEVICES_SQL = "SELECT device_id FROM devices WHERE user_id = %s ORDER BY device_id"


@dataclass(frozen=True, slots=True)
class DeviceList:
    """A user's devices. `stream_id`: a later list has a higher one."""

    stream_id: int
    device_ids: list[str]


class FederationDevices:
    """Queries of other servers on devices."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_user(self, user_id: str) -> DeviceList | None:
        """The devices of a user of ours; None where there is no such user (any more)."""

        def read(snapshot: Snapshot) -> DeviceList | None:
            account = snapshot.one(_ACCOUNT_SQL, (user_id,))
            if account is None:
                return None
            rows = snapshot.rows(_DEVICES_SQL, (user_id,))
            reached = vector_of(snapshot.positions).get(("users", account[0]), 0)
            return DeviceList(reached, [restore(device_id) for (device_id,) in rows])

        return await self._database.read(read)

    async def known(self, user_ids: Collection[str]) -> list[str]:
        """Those of these that are users of ours."""
        rows = await self._database.read(lambda snapshot: snapshot.rows(_USERS_SQL, (list(user_ids),)))
        return [restore(user_id) for (user_id,) in rows]
