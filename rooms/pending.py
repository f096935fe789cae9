"""Events that wait for the room's policy server, and its answers."""

from __future__ import annotations

from annals.rooms.judging import judge_answered
from annals.rooms.policy import decides, lacks_signature, refusal_in
from annals.rooms.step import Step
from annals.rooms.view import PENDING_POLICY
from annals.schemas.facts.rooms import PolicyAnswered


def take_answer(step: Step, fact: PolicyAnswered) -> None:
    """Decide about the event. An answer about one that does not wait, or of another server than the room's, is none."""
    entry = step.view.entry(fact.event_id)
    if entry is None or entry.verdict != PENDING_POLICY:
        return
    server = lacks_signature(step.view, entry.event)
    if decides(fact, server):
        judge_answered(step, entry, refusal_in(fact, entry.event, server))
