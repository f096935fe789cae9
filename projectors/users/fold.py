"""The fold of the users group. Names are taken by log order: the first AccountRegistered of a user id counts."""

from __future__ import annotations

from collections.abc import Iterable

from annals.database.rows import Row
from annals.projectors.folding import At, Overlay, Touch, UnknownFact
from annals.projectors.moved import Moved
from annals.projectors.sealables import packed, packed_or_none
from annals.projectors.users import tables
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.users import (
    AccountDataSet,
    AccountRegistered,
    AllDevicesLoggedOut,
    CommandFinished,
    CommandStarted,
    DeviceGiven,
    DeviceListChanged,
    DeviceLoggedIn,
    DeviceLoggedOut,
    FilterAdded,
    ProfileFieldSet,
    SigningKeysChanged,
    UserFact,
)


class UsersProjection:
    """Tables of users, devices, tokens, profiles, filters, account data and commands."""

    def touches(self, fact: Fact) -> Iterable[Touch]:
        """See Projection."""
        match fact:
            case AccountRegistered(user_id=user_id, device=device):
                yield Touch(tables.ACCOUNTS, (user_id,))
                if device is not None:
                    yield Touch(tables.DEVICES, (user_id, device.device_id))
            case DeviceLoggedIn(user_id=user_id, device=device):
                yield Touch(tables.DEVICES, (user_id, device.device_id))
            case DeviceLoggedOut(user_id=user_id, device_id=device_id):
                yield Touch(tables.DEVICES, (user_id, device_id))
            case AllDevicesLoggedOut(user_id=user_id):
                yield Touch(tables.DEVICES, (user_id,))
            case CommandStarted(user_id=user_id, command_id=command_id):
                yield Touch(tables.COMMANDS, (user_id, command_id))
            case CommandFinished(user_id=user_id, command_id=command_id):
                yield Touch(tables.COMMANDS, (user_id, command_id))
            case SigningKeysChanged(user_id=user_id):
                yield Touch(tables.DEVICE_LISTS_SIGNING_KEYS, (user_id,))

    def fold(self, fact: Fact, at: At, rows: Overlay) -> None:
        """See Projection."""
        match fact:
            case AccountRegistered():
                _register(fact, at, rows)
            case DeviceLoggedIn():
                _log_in(fact, fact.device, at, rows)
            case DeviceLoggedOut():
                _log_out(fact.user_id, fact.device_id, rows)
            case AllDevicesLoggedOut():
                for device in rows.under(tables.DEVICES, fact.user_id):
                    _log_out(fact.user_id, device["device_id"], rows)
            case ProfileFieldSet():
                _set_profile(fact, at, rows)
            case FilterAdded():
                definition = fact.definition.decode()
                row = {"user_id": fact.user_id, "filter_id": fact.filter_id, "definition": definition}
                rows.put(tables.FILTERS, {**row, **at.provenance()})
            case AccountDataSet():
                key = {"user_id": fact.user_id, "room_id": fact.room_id or "", "type": fact.type}
                rows.put(tables.ACCOUNT_DATA, {**key, "content": packed(fact.content), **at.provenance()})
            case CommandStarted():
                _start(fact, at, rows)
            case CommandFinished():
                _finish(fact, at, rows)
            case DeviceListChanged():
                rows.put(tables.DEVICE_LISTS, {**_remote_device(fact), **at.provenance()})
            case SigningKeysChanged():
                _set_signing_keys(fact, at, rows)
            case _:
                raise UnknownFact(type(fact).__name__)

    def touches_of_key(self, key: bytes) -> Iterable[Touch]:
        """None."""
        return ()

    def tombstone(self, key: bytes, at: At, rows: Overlay) -> None:
        """The topic is kept whole: a filler."""

    def moved(self, fact: Fact) -> Moved:
        """See Projection."""
        return Moved(users={fact.user_id}) if isinstance(fact, UserFact) else Moved()


def _remote_device(fact: DeviceListChanged) -> Row:
    return {
        "user_id": fact.user_id,
        "device_id": fact.device_id,
        "stream_id": fact.stream_id,
        "prev_ids": list(fact.prev_ids),
        "deleted": fact.deleted,
        "display_name": packed_or_none(fact.display_name),
        "keys": packed_or_none(fact.keys),
    }


def _set_signing_keys(fact: SigningKeysChanged, at: At, rows: Overlay) -> None:
    before = rows.get(tables.DEVICE_LISTS_SIGNING_KEYS, fact.user_id) or {}
    told = {"master_key": fact.master_key, "self_signing_key": fact.self_signing_key}
    # What is not told of stays.
    kept = {name: before.get(name) if key is None else packed(key) for name, key in told.items()}
    rows.put(tables.DEVICE_LISTS_SIGNING_KEYS, {"user_id": fact.user_id, **kept, **at.provenance()})


def _register(fact: AccountRegistered, at: At, rows: Overlay) -> None:
    if rows.get(tables.ACCOUNTS, fact.user_id) is not None:
        return
    account = {
        "user_id": fact.user_id,
        "password_hash": packed_or_none(fact.password_hash),
        "admin": fact.admin,
        "registered_at_ms": fact.envelope.recorded_at_ms,
        "deactivated": False,
        "idempotency_key": fact.envelope.idempotency_key,
    }
    rows.put(tables.ACCOUNTS, {**account, **at.provenance()})
    if fact.device is not None:
        _log_in(fact, fact.device, at, rows)


def _log_in(fact: UserFact, device: DeviceGiven, at: At, rows: Overlay) -> None:
    old = rows.get(tables.DEVICES, fact.user_id, device.device_id)
    if old is not None:
        rows.delete(tables.ACCESS_TOKENS, old["token_hash"])
    # A device that logs in again keeps its name unless it brings one.
    kept_name = old["display_name"] if old is not None else None
    key = {"user_id": fact.user_id, "device_id": device.device_id}
    row = {
        **key,
        "token_hash": device.token_hash,
        "display_name": kept_name if device.display_name is None else packed(device.display_name),
        "logged_in_at_ms": fact.envelope.recorded_at_ms,
    }
    rows.put(tables.DEVICES, {**row, **at.provenance()})
    rows.put(tables.ACCESS_TOKENS, {"token_hash": device.token_hash, **key, **at.provenance()})


def _log_out(user_id: str, device_id: str, rows: Overlay) -> None:
    device = rows.get(tables.DEVICES, user_id, device_id)
    if device is not None:
        rows.delete(tables.ACCESS_TOKENS, device["token_hash"])
        rows.delete(tables.DEVICES, user_id, device_id)


def _set_profile(fact: ProfileFieldSet, at: At, rows: Overlay) -> None:
    if fact.value is None:
        rows.delete(tables.PROFILES, fact.user_id, fact.field)
        return
    row = {"user_id": fact.user_id, "field": fact.field, "value": packed(fact.value)}
    rows.put(tables.PROFILES, {**row, **at.provenance()})


def _start(fact: CommandStarted, at: At, rows: Overlay) -> None:
    if rows.get(tables.COMMANDS, fact.user_id, fact.command_id) is not None:
        return
    command = {
        "user_id": fact.user_id,
        "command_id": fact.command_id,
        "kind": fact.kind,
        "plan": packed(fact.plan),
        "state": "started",
        "reason": None,
        "idempotency_key": fact.envelope.idempotency_key,
    }
    rows.put(tables.COMMANDS, {**command, **at.provenance()})


def _finish(fact: CommandFinished, at: At, rows: Overlay) -> None:
    command = rows.get(tables.COMMANDS, fact.user_id, fact.command_id)
    if command is None or command["state"] != "started":
        return
    state = "done" if fact.outcome == "done" else "failed"
    finished = {"state": state, "reason": fact.reason, "position": at.provenance()["position"]}
    rows.put(tables.COMMANDS, {**command, **finished})
