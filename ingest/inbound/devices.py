"""EDUs about devices: messages to devices of ours, and what other servers tell of the devices of their users.

Messages go to devices that are there; what is told of a user's devices is kept for users that share a room with us, so
that what a stranger can make us keep is bounded by the rooms that we let him into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annals.ingest.inbound.edus import contents_of, is_of
from annals.ingest.inbound.metrics import count
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.errors import NotCanonical
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.to_device import ToDeviceSent
from annals.schemas.facts.users import DeviceListChanged, SigningKeysChanged

TO_DEVICE, DEVICE_LIST, SIGNING_KEYS = "m.direct_to_device", "m.device_list_update", "m.signing_key_update"
KINDS = frozenset((TO_DEVICE, DEVICE_LIST, SIGNING_KEYS))
EVERY_DEVICE = "*"
COPIES_MAX, COPIES_BYTES_MAX = 10_000, 64 << 20
"""Of one transaction, of messages for every device of a user: who has many devices makes much of little."""
_CONTENT_BYTES_MAX = 60_000
_TEXT_MAX = 255
_PREV_IDS_MAX = 100
_INTEGER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ToDevice:
    """A message for a device of a user of ours, or for every one of them."""

    user_id: str
    device_id: str
    message_id: str
    sender: str
    type: str
    content: bytes


MakeFact = Callable[[Envelope], Fact]


@dataclass(frozen=True, slots=True)
class DeviceClaims:
    """What a transaction says of devices. `told`: by remote user, the facts that it would make."""

    messages: Sequence[ToDevice] = ()
    told: Sequence[tuple[str, MakeFact]] = ()

    @property
    def receivers(self) -> set[str]:
        """Users of ours whose devices must be known."""
        return {message.user_id for message in self.messages}

    @property
    def owners(self) -> set[str]:
        """Users of others that must share a room with us."""
        return {user_id for user_id, _ in self.told}


def device_claims(edus: list[Any], origin: str, server_name: str) -> DeviceClaims:
    """What the EDUs say; what makes no sense is left out and counted. Nothing raises."""
    messages = [message for content in contents_of(edus, TO_DEVICE) for message in _messages(content, origin)]
    ours = [message for message in messages if is_of(message.user_id, server_name)]
    count(TO_DEVICE, "refused", len(messages) - len(ours))
    told = [*_told(edus, DEVICE_LIST, _device, origin), *_told(edus, SIGNING_KEYS, _signing_keys, origin)]
    return DeviceClaims(ours, told)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The facts, and what was for so many devices that nothing is made of it."""

    facts: list[Fact]
    left_out: list[ToDevice]


def device_facts(
    claims: DeviceClaims, devices: Mapping[str, Sequence[str]], sharing: frozenset[str], envelope: Envelope
) -> Delivered:
    """The facts, `devices` being those of the receivers, and `sharing` the owners that share a room with us."""
    facts: list[Fact] = []
    left_out: list[ToDevice] = []
    there = {user_id: frozenset(device_ids) for user_id, device_ids in devices.items()}
    copies = copied_bytes = 0
    for message in claims.messages:
        chosen: Sequence[str] = (message.device_id,) if message.device_id in there.get(message.user_id, ()) else ()
        if message.device_id == EVERY_DEVICE:
            chosen = devices.get(message.user_id, ())
            size_bytes = len(chosen) * len(message.content)
            if copies + len(chosen) > COPIES_MAX or copied_bytes + size_bytes > COPIES_BYTES_MAX:
                left_out.append(message)
                continue
            copies, copied_bytes = copies + len(chosen), copied_bytes + size_bytes
        count(TO_DEVICE, "logged" if chosen else "no_such_device")
        facts += [_message_fact(message, device_id, envelope) for device_id in chosen]
    facts += _told_facts(claims, sharing, envelope)
    return Delivered(facts, left_out)


def _told_facts(claims: DeviceClaims, sharing: frozenset[str], envelope: Envelope) -> Iterator[Fact]:
    for user_id, make in claims.told:
        count("devices", "logged" if user_id in sharing else "refused")
        if user_id in sharing:
            yield make(envelope)


def _message_fact(message: ToDevice, device_id: str, envelope: Envelope) -> ToDeviceSent:
    return ToDeviceSent(
        envelope, message.user_id, device_id, message.message_id, message.sender, message.type, message.content
    )


def _messages(content: Mapping[str, Any], origin: str) -> Iterator[ToDevice]:
    sender, kind, message_id = content.get("sender"), content.get("type"), content.get("message_id")
    by_user = content.get("messages")
    if not is_of(sender, origin) or not _is_text(kind) or not _is_text(message_id) or type(by_user) is not dict:
        count(TO_DEVICE, "refused")
        return
    for user_id, by_device in by_user.items():
        if type(by_device) is not dict or len(user_id) > _TEXT_MAX:
            count(TO_DEVICE, "refused")
            continue
        for device_id, body in by_device.items():
            text = _object(body) if _is_text(device_id) else None
            if text is None:
                count(TO_DEVICE, "refused")
            else:
                yield ToDevice(user_id, device_id, f"{origin}/{message_id}", str(sender), str(kind), text)


def _told(
    edus: list[Any], kind: str, reader: Callable[[str, Mapping[str, Any]], MakeFact | None], origin: str
) -> Iterator[tuple[str, MakeFact]]:
    for content in contents_of(edus, kind):
        user_id = content.get("user_id")
        make = reader(str(user_id), content) if is_of(user_id, origin) else None
        if make is None:
            count(kind, "refused")
        else:
            yield str(user_id), make


def _device(user_id: str, content: Mapping[str, Any]) -> MakeFact | None:
    device_id, stream_id, name = (content.get(key) for key in ("device_id", "stream_id", "device_display_name"))
    prev_ids, keys = content.get("prev_id"), _object(content.get("keys"))
    if not _is_text(device_id) or not _is_number(stream_id):
        return None
    prev_ids = prev_ids[:_PREV_IDS_MAX] if type(prev_ids) is list else []
    display_name = name[:_TEXT_MAX].encode() if type(name) is str else None
    deleted = content.get("deleted") is True
    numbers = tuple(number for number in prev_ids if _is_number(number))

    def make(envelope: Envelope) -> Fact:
        return DeviceListChanged(
            envelope, user_id, str(device_id), int(str(stream_id)), numbers, deleted, display_name, keys
        )

    return make


def _signing_keys(user_id: str, content: Mapping[str, Any]) -> MakeFact | None:
    master, self_signing = _object(content.get("master_key")), _object(content.get("self_signing_key"))
    if master is None and self_signing is None:
        return None
    return lambda envelope: SigningKeysChanged(envelope, user_id, master, self_signing)


def _object(value: Any) -> bytes | None:
    """JSON of an object that fits into a record; None for anything else."""
    if type(value) is not dict:
        return None
    try:
        text = canonical_bytes(value)
    except NotCanonical:
        return None
    return text if len(text) <= _CONTENT_BYTES_MAX else None


def _is_text(value: object) -> bool:
    return type(value) is str and 0 < len(value) <= _TEXT_MAX


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= _INTEGER_MAX
