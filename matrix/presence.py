"""Presence ("Presence" of both APIs): what a user's state says, as events and EDUs have it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ONLINE, UNAVAILABLE, OFFLINE = "online", "unavailable", "offline"
#: From the least to the most that a user can be there.
STATES = (OFFLINE, UNAVAILABLE, ONLINE)
STATUS_MSG_MAX = 1_000
"""Characters that are kept of a status message."""
_AGO_MS_MAX = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Presence:
    """A user's presence. `last_active_ms`: when they did something, since 1970; None: not known."""

    presence: str
    status_msg: str | None = None
    last_active_ms: int | None = None
    currently_active: bool = False

    @classmethod
    def recorded(cls, state: str, status: object, last_active_ms: int | None, currently_active: bool) -> Presence:
        """As a fact has it: `status` is UTF-8; None, or what cannot be read any more, is no status."""
        text = status.decode("utf-8", "replace") if isinstance(status, bytes) else None
        return cls(state, text, last_active_ms, currently_active)

    def says_the_same_as(self, other: Presence) -> bool:
        """Whether nobody needs to hear of the difference."""
        mine = (self.presence, self.status_msg, self.currently_active)
        return mine == (other.presence, other.status_msg, other.currently_active)

    def content(self, now_ms: int) -> dict[str, Any]:
        """The content of an m.presence event."""
        content: dict[str, Any] = {"presence": self.presence}
        if self.last_active_ms is not None:
            content["last_active_ago"] = max(0, now_ms - self.last_active_ms)
        if self.status_msg is not None:
            content["status_msg"] = self.status_msg
        if self.presence == ONLINE:
            content["currently_active"] = self.currently_active
        return content

    def update(self, user_id: str, now_ms: int) -> dict[str, Any]:
        """An entry of an m.presence EDU's `push`."""
        # "required: user_id, presence, last_active_ago"
        return {"user_id": user_id, "last_active_ago": 0, **self.content(now_ms)}


UNKNOWN = Presence(OFFLINE)


def rank(state: str) -> int:
    """How much a user is there: offline 0, unavailable 1, online 2."""
    return STATES.index(state)


def pushed(update: Mapping[str, Any], now_ms: int) -> Presence | None:
    """The presence in an entry of an EDU's `push`; None where it is none."""
    state, ago_ms = update.get("presence"), update.get("last_active_ago")
    if type(state) is not str or state not in STATES:
        return None
    has_time = type(ago_ms) is int and 0 <= ago_ms <= _AGO_MS_MAX
    status = update.get("status_msg")
    return Presence(
        state,
        status[:STATUS_MSG_MAX] if type(status) is str else None,
        max(0, now_ms - int(ago_ms)) if has_time else None,  # type: ignore[arg-type]
        # "Defaults to false."
        state == ONLINE and update.get("currently_active") is True,
    )
