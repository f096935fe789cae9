"""Where a fact belongs: its topic, what its partition is computed from, and the key that compaction goes by.

`schemas/topics.yaml` says the same for people. Neither appends nor knows how many partitions there are: the callers
turn an `Addressed` into an append.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from annals.schemas.codec import encode, schema_file
from annals.schemas.errors import Unencodable
from annals.schemas.facts.decisions import Decision, Mark
from annals.schemas.facts.directory import RoomPublished
from annals.schemas.facts.ephemeral import PresenceSet
from annals.schemas.parts import split
from annals.schemas.patching import with_number


@dataclass(frozen=True, slots=True)
class Addressed:
    """A record and its place. `partition` is given where no key decides it (marks); a `value` None deletes the key."""

    topic: str
    partition_key: str
    record_key: bytes
    value: bytes | None
    partition: int | None = None


def record_of(fact: Any) -> Addressed:
    """The record of a fact and its place. Unencodable for decisions, which need a generation."""
    topic, key_of = _place_of(fact.__class__)
    partition_key, record_key = key_of(fact)
    return Addressed(topic, partition_key, record_key, encode(fact))


@cache
def _place_of(cls: type) -> tuple[str, Callable[[Any], tuple[str, bytes]]]:
    topic = schema_file(cls).topic
    try:
        return topic, _KEYS[topic]
    except KeyError:
        raise Unencodable(f"no key is known for {topic}: {cls.__name__}") from None


def records_of_decision(decision: Decision, generation: str) -> list[Addressed]:
    """The records of a decision, in the order to append them: several where it is over 64 KiB."""
    topic, room_id = f"decisions.{generation}", decision.room_id
    return [Addressed(topic, room_id, room_id.encode(), value) for value in values_of_decision(decision)]


def values_of_decision(decision: Decision) -> list[bytes]:
    """What these records hold."""
    return split(encode(decision), decision.epoch)


def values_under_epoch(decision: Decision, value: bytes, epoch: int) -> list[bytes]:
    """The records of a decision whose whole record is `value`, made to be of another epoch, in the order to append."""
    patched = with_number(value, "epoch", epoch)
    return split(encode(replace(decision, epoch=epoch)) if patched is None else patched, epoch)


def record_of_mark(mark: Mark, generation: str, partition: int) -> Addressed:
    """The record by which an owner takes `partition` of a generation's decisions."""
    return Addressed(f"decisions.{generation}", "", b"mark", encode(mark), partition)


def erased_subject_key(user_id: str, key_id: str) -> Addressed:
    """The tombstone that erases a subject's key, and with it all that was sealed under it."""
    return Addressed("subject_keys", user_id, _key(user_id, key_id), None)


def _key(*parts: str | None) -> bytes:
    # JSON, so that no choice of names makes two keys one.
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()


def _by_room(fact: Any) -> tuple[str, bytes]:
    return fact.room_id, fact.room_id.encode()


def _by_user(fact: Any) -> tuple[str, bytes]:
    return fact.user_id, fact.user_id.encode()


def _by_name(fact: Any) -> tuple[str, bytes]:
    key = f"room:{fact.room_id}" if isinstance(fact, RoomPublished) else f"alias:{fact.alias}"
    return key, key.encode()


def _receipt(fact: Any) -> tuple[str, bytes]:
    return fact.room_id, _key(fact.room_id, fact.user_id, fact.receipt_type, fact.thread_id)


def _to_device(fact: Any) -> tuple[str, bytes]:
    return fact.user_id, to_device_key(fact.user_id, fact.device_id, fact.message_id)


def to_device_key(user_id: str, device_id: str, message_id: str) -> bytes:
    """The key by which a message to a device is compacted, and taken away."""
    return _key(user_id, device_id, message_id)


def _subject_key(fact: Any) -> tuple[str, bytes]:
    # By key and not by subject alone: should two processes make a first key at once, compaction must not drop the one
    # that counts, which is the earlier.
    return fact.user_id, _key(fact.user_id, fact.key_id)


def _by_server(fact: Any) -> tuple[str, bytes]:
    return fact.server_name, fact.server_name.encode()


def _by_origin(fact: Any) -> tuple[str, bytes]:
    return fact.origin, fact.origin.encode()


def _ephemeral(fact: Any) -> tuple[str, bytes]:
    return _by_user(fact) if isinstance(fact, PresenceSet) else _by_room(fact)


def _one_partition(fact: Any) -> tuple[str, bytes]:
    return "", type(fact).__name__.encode()


_KEYS: dict[str, Callable[[Any], tuple[str, bytes]]] = {
    "rooms": _by_room,
    "users": _by_user,
    "directory": _by_name,
    "receipts": _receipt,
    "to_device": _to_device,
    "ephemeral": _ephemeral,
    "servers": _by_server,
    "quarantine": _by_origin,
    "subject_keys": _subject_key,
    "operations": _one_partition,
}
