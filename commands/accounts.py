"""Accounts, log-ins and log-outs.

A user name is a contended choice: every process appends the request, the log's order decides, and whoever finds its own
offset as the `source` of the account's row has won. A registration is one fact: account, device and token.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from annals.commands.errors import Refused
from annals.commands.passwords import PASSWORD_BYTES_MAX, Passwords
from annals.commands.subject_keys import SubjectKeys
from annals.commands.tokens import new_device_id, new_localpart, new_token, token_hash
from annals.database.pool import Database
from annals.matrix.identifiers import is_new_user_id
from annals.projectors.positions.appending import Appender
from annals.schemas.errors import KeyGone
from annals.schemas.facts.users import (
    AccountRegistered,
    AllDevicesLoggedOut,
    DeviceGiven,
    DeviceLoggedIn,
    DeviceLoggedOut,
)

#: The name under which an account's password hash is sealed.
PASSWORD_FIELD = "password_hash"
DEVICE_ID_BYTES_MAX = 255
DISPLAY_NAME_BYTES_MAX = 1024

_ACCOUNT_SQL = "SELECT password_hash, deactivated FROM accounts WHERE user_id = %s"
_SOURCE_SQL = "SELECT source FROM accounts WHERE user_id = %s"
_TOKEN_SQL = "SELECT 1 FROM access_tokens WHERE token_hash = %s"


@dataclass(frozen=True, slots=True)
class DeviceWish:
    """The device that a client wants; without an id it gets a new one."""

    device_id: str | None = None
    display_name: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """What a client gets: its user, and its device and token where it is logged in."""

    user_id: str
    device_id: str | None = None
    access_token: str | None = None


class Accounts:
    """Commands on accounts of this server."""

    def __init__(
        self, appender: Appender, database: Database, keys: SubjectKeys, passwords: Passwords, server_name: str
    ) -> None:
        self._appender, self._database = appender, database
        self._keys, self._passwords, self._server_name = keys, passwords, server_name

    async def check_free(self, localpart: str) -> str:
        """The user id that a name would get. Refused: M_INVALID_USERNAME, or M_USER_IN_USE (at this moment)."""
        user_id = self.new_user_id(localpart)
        if await self._database.read(lambda snapshot: snapshot.one(_SOURCE_SQL, (user_id,))) is not None:
            raise _in_use()
        return user_id

    async def register(
        self,
        localpart: str | None,
        password: str | None,
        device: DeviceWish | None,
        admin: bool = False,
        cause: str | None = None,
    ) -> Session:
        """Make an account, and log it in where a device is wished for. Without a password nobody can log in by one.

        Refused: M_INVALID_USERNAME, M_USER_IN_USE, M_INVALID_PARAM.
        """
        user_id = await self.check_free(new_localpart() if localpart is None else localpart)
        given, session = _session(user_id, device)
        password_hash = None
        if password is not None:
            _check_password(password)
            # The key's way over the log takes less time than the hash: both at once.
            hashed, _ = await asyncio.gather(self._passwords.hash(password), self._keys.key_of(user_id, cause))
            password_hash = await self._keys.seal(hashed, PASSWORD_FIELD, user_id, cause)
        fact = AccountRegistered(self._appender.envelope(cause), user_id, password_hash, admin, given)
        submitted = await self._appender.submit_and_settle([fact])
        row = await self._database.read(lambda snapshot: snapshot.one(_SOURCE_SQL, (user_id,)))
        # The first request of a name made the row.
        if row is None or row[0] != submitted.offset():
            raise _in_use()
        return session

    async def log_in(self, user: str, password: str, device: DeviceWish, cause: str | None = None) -> Session:
        """A new token for a user (a name or a whole user id), on a new device or one that it had (whose old token
        dies). Refused: M_FORBIDDEN, M_USER_DEACTIVATED, M_INVALID_PARAM."""
        user_id = self.own_user_id(user)
        given, session = _session(user_id, device)
        row = await self._database.read(lambda snapshot: snapshot.one(_ACCOUNT_SQL, (user_id,)))
        password_hash = None
        if row is not None and row[0] is not None:
            with suppress(KeyGone):  # an erased account has no password
                password_hash = await self._keys.open(row[0], PASSWORD_FIELD, user_id)
        if not await self._passwords.verify(password_hash, password) or row is None or given is None:
            raise Refused(403, "M_FORBIDDEN", "Invalid username or password")
        return await self._logged_in(user_id, row[1], given, session, cause)

    async def log_in_without_password(self, user_id: str, device: DeviceWish, cause: str | None = None) -> Session:
        """The same for whoever may do so. Refused: M_FORBIDDEN, M_USER_DEACTIVATED, M_INVALID_PARAM."""
        given, session = _session(user_id, device)
        row = await self._database.read(lambda snapshot: snapshot.one(_ACCOUNT_SQL, (user_id,)))
        if row is None or given is None:
            raise Refused(403, "M_FORBIDDEN", "This user was never registered")
        return await self._logged_in(user_id, row[1], given, session, cause)

    async def _logged_in(
        self, user_id: str, deactivated: bool, given: DeviceGiven, session: Session, cause: str | None
    ) -> Session:
        if deactivated:
            raise Refused(403, "M_USER_DEACTIVATED", "This account has been deactivated")
        await self._appender.submit_and_settle([DeviceLoggedIn(self._appender.envelope(cause), user_id, given)])
        # The fold lets nobody in whose account was closed meanwhile; a log-out that was quicker is no failure of ours.
        if await self._database.read(lambda snapshot: snapshot.one(_TOKEN_SQL, (given.token_hash,))) is None:
            raise Refused(403, "M_FORBIDDEN", "The log-in was undone at once")
        return session

    async def log_out(self, user_id: str, device_id: str, cause: str | None = None) -> None:
        """End a device and its token."""
        await self._appender.submit_and_settle([DeviceLoggedOut(self._appender.envelope(cause), user_id, device_id)])

    async def log_out_everywhere(self, user_id: str, cause: str | None = None) -> None:
        """End all devices and tokens of a user."""
        await self._appender.submit_and_settle([AllDevicesLoggedOut(self._appender.envelope(cause), user_id)])

    def new_user_id(self, localpart: str) -> str:
        """The user id that a name would get. Refused: M_INVALID_USERNAME."""
        # Clients may ask for capitals; we have none, so that no two names differ by them alone.
        user_id = f"@{localpart.lower()}:{self._server_name}"
        if not is_new_user_id(user_id) or ":" in localpart:
            raise Refused(
                400, "M_INVALID_USERNAME", "A user name has only the characters a-z, 0-9, ., _, =, -, / and +"
            )
        return user_id

    def own_user_id(self, user: str) -> str:
        """The user id that somebody means who logs in: a name, or a whole id."""
        if user.startswith("@") and ":" in user:
            return user[: user.index(":")].lower() + user[user.index(":") :]
        return f"@{user.lower()}:{self._server_name}"


def _session(user_id: str, device: DeviceWish | None) -> tuple[DeviceGiven | None, Session]:
    if device is None:
        return None, Session(user_id)
    device_id = new_device_id() if device.device_id is None else device.device_id
    if not device_id or len(device_id.encode("utf-8")) > DEVICE_ID_BYTES_MAX:
        raise Refused(400, "M_INVALID_PARAM", f"A device id has 1 to {DEVICE_ID_BYTES_MAX} bytes")
    display_name = None if device.display_name is None else device.display_name.encode("utf-8")
    if display_name is not None and len(display_name) > DISPLAY_NAME_BYTES_MAX:
        raise Refused(400, "M_INVALID_PARAM", f"A device's name has at most {DISPLAY_NAME_BYTES_MAX} bytes")
    token = new_token()
    return DeviceGiven(device_id, token_hash(token), display_name), Session(user_id, device_id, token)


def _check_password(password: str) -> None:
    if not password:
        raise Refused(400, "M_WEAK_PASSWORD", "The password is empty")
    if len(password.encode("utf-8")) > PASSWORD_BYTES_MAX:
        raise Refused(400, "M_INVALID_PARAM", f"A password has at most {PASSWORD_BYTES_MAX} bytes")


def _in_use() -> Refused:
    return Refused(400, "M_USER_IN_USE", "User ID already taken")
