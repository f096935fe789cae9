"""What other folders may take from the rooms projection: its tables' columns are theirs to query, these are the codes
in which rows hold things."""

from __future__ import annotations

from collections.abc import Iterable

from annals.projectors.rooms.elsewhere import (
    Handshake,
    Preview,
    Wanted,
    handshake_of,
    open_handshakes,
    preview_of,
    wanted_of,
)
from annals.projectors.rooms.event_json import join_event, shown_event, split_event
from annals.projectors.rooms.found import Reads
from annals.projectors.rooms.load import load
from annals.projectors.rooms.load_events import stored_event
from annals.projectors.rooms.load_states import StateNotStored
from annals.rooms.needs import Needs

__all__ = [
    "Handshake",
    "Preview",
    "Reads",
    "StateNotStored",
    "Wanted",
    "handshake_of",
    "join_event",
    "load",
    "open_handshakes",
    "preview_of",
    "shown_event",
    "split_event",
    "state_entries",
    "stored_event",
    "wanted_of",
    "whole_state",
]


def state_entries(
    reads: Reads, wanted: Iterable[tuple[str, int, str, str]]
) -> dict[tuple[str, int, str, str], str | None]:
    """Which event holds each (room_id, state_id, type, state_key) of stored states, if any does."""
    found: dict[tuple[str, int, str, str], str | None] = {}
    for loaded in load(reads, Needs(state_keys=frozenset(wanted))).values():
        found.update(loaded.state_keys)
    return found


def whole_state(reads: Reads, room_id: str, state_id: int) -> dict[tuple[str, str], str]:
    """All entries of a stored state: (type, state_key) to event id."""
    found = load(reads, Needs(whole_states=frozenset([(room_id, state_id)])))
    return dict(found[room_id].whole_states[room_id, state_id]) if room_id in found else {}
