"""A local user who has left a room puts it out of sight."""

from __future__ import annotations

from annals.rooms.step import Step
from annals.schemas.facts.decisions import MembershipForgotten, Skipped
from annals.schemas.facts.rooms import RoomForgotten

_STILL_IN = ("join", "invite", "knock")


def forget(step: Step, fact: RoomForgotten, source: int) -> None:
    """Client-server API, POST /forget: a user who is still in the room (or invited, or knocking) cannot forget it."""
    member_id = step.view.current_state().get(("m.room.member", fact.user_id))
    entry = step.view.entry(member_id) if member_id else None
    if entry is None or entry.event.content.get("membership") in _STILL_IN:
        step.decide(Skipped, source, reason="still_in_the_room" if entry else "never_in_the_room")
    else:
        step.decide(MembershipForgotten, source, user_id=fact.user_id)
