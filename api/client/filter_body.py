"""The shape of a filter (definitions/sync_filter.yaml): checked when one is stored, and when /sync gets one inline."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from annals.api.bodies import Body


class EventFilter(Body):
    """Which events, by type and sender."""

    limit: int | None = Field(default=None, ge=1)
    not_senders: list[str] | None = None
    not_types: list[str] | None = None
    senders: list[str] | None = None
    types: list[str] | None = None


class RoomEventFilter(EventFilter):
    """Which events of rooms."""

    lazy_load_members: bool = False
    include_redundant_members: bool = False
    unread_thread_notifications: bool = False
    not_rooms: list[str] | None = None
    rooms: list[str] | None = None
    contains_url: bool | None = None


class RoomFilter(Body):
    """Which rooms, and which of their events."""

    not_rooms: list[str] | None = None
    rooms: list[str] | None = None
    include_leave: bool = False
    ephemeral: RoomEventFilter | None = None
    state: RoomEventFilter | None = None
    timeline: RoomEventFilter | None = None
    account_data: RoomEventFilter | None = None


class FilterBody(Body):
    """A filter as clients define it."""

    event_fields: list[str] | None = None
    event_format: Literal["client", "federation"] = "client"
    presence: EventFilter | None = None
    account_data: EventFilter | None = None
    room: RoomFilter | None = None
