"""Events about which the rules know so little that many share one verdict: nearly all messages of a sender."""

from __future__ import annotations

from collections.abc import Hashable

from annals.matrix.events import Event

#: Of these the rules read content, previous events or what they redact, though they have no state key.
_READ_FURTHER = frozenset(("m.room.create", "m.room.power_levels", "m.room.redaction"))


def kind_of(event: Event) -> Hashable | None:
    """What `check_auth_events` and `allowed` read of an event of a room: in the same state, and citing the same events,
    those of one kind have one verdict. None where the rules read more."""
    if event.state_key is not None or event.type in _READ_FURTHER:
        return None
    return event.type, event.sender, event.rules
