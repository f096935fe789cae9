"""Facts of topic `users`, keyed by user_id."""

from __future__ import annotations

from dataclasses import dataclass

from annals.schemas.facts.envelope import Fact, Sealable


@dataclass(frozen=True, slots=True)
class DeviceGiven:
    """A device and the hash of the access token that goes with it (SHA-256; the token itself is never logged)."""

    device_id: str
    token_hash: bytes
    display_name: Sealable | None = None


@dataclass(frozen=True, slots=True)
class UserFact(Fact):
    """A fact about one user."""

    user_id: str


@dataclass(frozen=True, slots=True)
class AccountRegistered(UserFact):
    """Somebody asks for a user name. The first such fact of a name makes the account, later ones do nothing."""

    password_hash: Sealable | None
    admin: bool
    device: DeviceGiven | None


@dataclass(frozen=True, slots=True)
class DeviceLoggedIn(UserFact):
    """A log-in: a new device, or a new token for one that is known (its old token dies)."""

    device: DeviceGiven


@dataclass(frozen=True, slots=True)
class DeviceLoggedOut(UserFact):
    """The device and its token are gone."""

    device_id: str


@dataclass(frozen=True, slots=True)
class AllDevicesLoggedOut(UserFact):
    """All devices and tokens of the user are gone."""


@dataclass(frozen=True, slots=True)
class ProfileFieldSet(UserFact):
    """`value` is JSON; None removes the field (displayname, avatar_url, or a custom one)."""

    field: str
    value: Sealable | None


@dataclass(frozen=True, slots=True)
class FilterAdded(UserFact):
    """`definition` is JSON; `filter_id` is derived from it, so that the same filter gets the same id."""

    filter_id: str
    definition: bytes


@dataclass(frozen=True, slots=True)
class AccountDataSet(UserFact):
    """Account data of a user, of one room where `room_id` is given; `content` is JSON."""

    room_id: str | None
    type: str
    content: Sealable


@dataclass(frozen=True, slots=True)
class CommandStarted(UserFact):
    """A command over several keys begins; `plan` (JSON) holds ids chosen beforehand, so that any process resumes it."""

    command_id: str
    kind: str
    plan: Sealable


@dataclass(frozen=True, slots=True)
class CommandFinished(UserFact):
    """All steps of the command are done (`outcome` "done"), or it was given up, with the reason."""

    command_id: str
    outcome: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceListChanged(UserFact):
    """Another server says what a device of its user is now. `keys` (JSON) and the name are None where it has none.

    `stream_id` numbers what that server says about the user; `prev_ids` are the numbers before it: where none of them
    is known something was lost.
    """

    device_id: str
    stream_id: int
    prev_ids: tuple[int, ...]
    deleted: bool
    display_name: Sealable | None
    keys: Sealable | None


@dataclass(frozen=True, slots=True)
class SigningKeysChanged(UserFact):
    """Another server says by which keys its user signs devices now, JSON each; None where it says nothing of one."""

    master_key: Sealable | None
    self_signing_key: Sealable | None
