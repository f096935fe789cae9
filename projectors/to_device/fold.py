"""The fold of the to_device group: a message stands until its key is taken away."""

from __future__ import annotations

import json
from collections.abc import Iterable

from annals.projectors.folding import At, Overlay, Touch, UnknownFact
from annals.projectors.moved import Moved
from annals.projectors.sealables import packed
from annals.projectors.to_device.tables import TO_DEVICE
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.to_device import ToDeviceSent


class ToDeviceProjection:
    """The table of messages."""

    def touches(self, fact: Fact) -> Iterable[Touch]:
        """None: compaction keeps the last record of a key, so the last one counts."""
        return ()

    def fold(self, fact: Fact, at: At, rows: Overlay) -> None:
        """See Projection."""
        if not isinstance(fact, ToDeviceSent):
            raise UnknownFact(type(fact).__name__)
        row = {
            "user_id": fact.user_id,
            "device_id": fact.device_id,
            "message_id": fact.message_id,
            "sender": fact.sender,
            "type": fact.type,
            "content": packed(fact.content),
        }
        rows.put(TO_DEVICE, {**row, **at.provenance()})

    def touches_of_key(self, key: bytes) -> Iterable[Touch]:
        """None."""
        return ()

    def tombstone(self, key: bytes, at: At, rows: Overlay) -> None:
        """The device has it."""
        parts = _parts(key)
        if parts is not None:
            rows.delete(TO_DEVICE, *parts)

    def moved(self, fact: Fact) -> Moved:
        """See Projection."""
        return Moved(users={fact.user_id}) if isinstance(fact, ToDeviceSent) else Moved()


def _parts(key: bytes) -> tuple[str, str, str] | None:
    """Of schemas.records.to_device_key; None for a filler's key."""
    try:
        user_id, device_id, message_id = json.loads(key)
    except ValueError:
        return None
    return user_id, device_id, message_id
