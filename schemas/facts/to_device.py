"""Facts of topic `to_device`, keyed by the user they are for, compacted by user, device and message."""

from __future__ import annotations

from dataclasses import dataclass

from annals.schemas.facts.envelope import Fact, Sealable


@dataclass(frozen=True, slots=True)
class ToDeviceSent(Fact):
    """A message for one device of one of our users; it stands until it is acknowledged, by a record without a value.

    `message_id` is its sender's server's own, behind the name of that server. `content` is JSON.
    """

    user_id: str
    device_id: str
    message_id: str
    sender: str
    type: str
    content: Sealable
