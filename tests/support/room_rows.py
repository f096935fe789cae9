"""Rows of rooms for tests of what only reads them: who is in, and single state events."""

from __future__ import annotations

import json
from typing import Any

from annals.database.rows import Rows
from annals.projectors.rooms.tables import CURRENT_STATE, EVENTS, LOCAL_CURRENT_MEMBERSHIP, ROOMS

_PROVENANCE = {"partition": 0, "source": 0, "position": 0}


def room(rows: Rows, room_id: str, creator: str) -> None:
    """A room."""
    row = {"room_id": room_id, "room_version": "12", "create_event_id": "$create", "creator": creator}
    rows.upsert(ROOMS, {**row, **_PROVENANCE})


def state(rows: Rows, room_id: str, type: str, state_key: str, content: dict[str, Any], sender: str) -> None:
    """A state event that holds its key."""
    event_id = f"${room_id}/{type}/{state_key}"
    membership = content.get("membership") if type == "m.room.member" else None
    event: dict[str, Any] = {
        "room_id": room_id,
        "event_id": event_id,
        "room_version": "12",
        "type": type,
        "state_key": state_key,
        "sender": sender,
        "depth": 1,
        "origin_server_ts": 0,
        "verdict": "accepted",
        "outlier": False,
        "backfilled": False,
        "provisional": False,
        "prev_events": [],
        "auth_events": [],
        "client_json": json.dumps({"type": type, "content": content, "sender": sender}),
        "federation_json": "{}",
        "membership": membership,
    }
    rows.upsert(EVENTS, {**event, **_PROVENANCE})
    key = {"room_id": room_id, "type": type, "state_key": state_key}
    rows.upsert(CURRENT_STATE, {**key, "event_id": event_id, "membership": membership, **_PROVENANCE})
    if membership is not None:
        local = {"room_id": room_id, "user_id": state_key, "event_id": event_id, "membership": membership}
        rows.upsert(LOCAL_CURRENT_MEMBERSHIP, {**local, "forgotten": False, **_PROVENANCE})


def member(rows: Rows, room_id: str, user_id: str, membership: str = "join", **profile: str) -> None:
    """A user's membership."""
    state(rows, room_id, "m.room.member", user_id, {"membership": membership, **profile}, user_id)
