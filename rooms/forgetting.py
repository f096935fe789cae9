"""A local user who has left a room puts it out of sight."""

from __future__ import annotations

from annals.rooms.residents import local_membership
from annals.rooms.step import Step
from annals.schemas.facts.decisions import MembershipForgotten, Skipped
from annals.schemas.facts.rooms import RoomForgotten

_STILL_IN = ("join", "invite", "knock")


def forget(step: Step, fact: RoomForgotten, source: int) -> None:
    """Client-server API, POST /forget: a user who is still in the room (or invited, or knocking) cannot forget it.

    It may be a room that we know of an invite or a knock only.
    """
    membership = local_membership(step, fact.user_id)
    if membership is None or membership in _STILL_IN:
        step.decide(Skipped, source, reason="still_in_the_room" if membership else "never_in_the_room")
    else:
        step.decide(MembershipForgotten, source, user_id=fact.user_id)
