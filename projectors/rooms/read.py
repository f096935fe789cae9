"""What other folders may take from the rooms projection: its tables' columns are theirs to query, these are the codes
in which rows hold things."""

from __future__ import annotations

from annals.projectors.rooms.event_json import join_event, split_event
from annals.projectors.rooms.load import Reads, StateNotStored, load, stored_event

__all__ = ["Reads", "StateNotStored", "join_event", "load", "split_event", "stored_event"]
