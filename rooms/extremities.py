"""Forward extremities: the accepted events of a room that no accepted event follows.

Rejected and soft-failed events are never extremities, and they are no wall either: who follows such an event follows
the accepted ones behind it too. So the extremities do not depend on the order in which events came.
"""

from __future__ import annotations

from annals.rooms.ancestors import entries_of
from annals.rooms.step import Step
from annals.rooms.view import ACCEPTED, Entry
from annals.schemas.position import pack


def extremities_after(step: Step, entry: Entry, late: bool = False) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make an accepted event an extremity in place of those that it follows; returns (added, removed).

    `late`: it has been in the graph for a while, so that others may follow it. What the join follows by which we came
    into the room is followed from the start, and takes those that it follows with it: that join, or what has come
    behind it, is an extremity.
    """
    event = entry.event
    header = step.header
    old = header.extremities
    if late and not not_followed(step, {event.event_id: entry}, old):
        return (), ()
    followed = accepted_before(step, entry)
    removed = tuple([event_id for event_id in old if event_id in followed])
    added = () if event.event_id in header.entered_after else (event.event_id,)
    step.set_extremities((*[event_id for event_id in old if event_id not in removed], *added))
    return added, removed


def accepted_before(step: Step, entry: Entry) -> dict[str, Entry]:
    """The nearest accepted events before one: its prev_events, and what stands behind those that were not accepted."""
    found: dict[str, Entry] = {}
    frontier = entry.event.prev_events
    seen: set[str] = set()
    while frontier:
        refused: list[Entry] = []
        for before in entries_of(step.view, frontier):
            if before.verdict == ACCEPTED:
                found[before.event.event_id] = before
            else:
                refused.append(before)
        if not refused:
            break
        seen.update(frontier)
        behind = dict.fromkeys(event_id for before in refused for event_id in before.event.prev_events)
        frontier = tuple([event_id for event_id in behind if event_id not in seen])
    return found


def not_followed(step: Step, candidates: dict[str, Entry], heads: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `candidates` that none of `heads`, and no other candidate, follows; sorted.

    An event comes into the graph after all that it follows: below the oldest candidate nothing needs to be looked at.
    """
    if not candidates:
        return ()
    # One that has waited for a policy server was decided again behind what follows it.
    oldest = min(min(entry.position, pack(entry.source, 0)) for entry in candidates.values())
    seen: set[str] = set()
    frontier: tuple[str, ...] = tuple(dict.fromkeys((*heads, *sorted(candidates))))
    while frontier:
        entries = [entry for entry in entries_of(step.view, frontier) if entry.position > oldest]
        before = {event_id for entry in entries for event_id in entry.event.prev_events} - seen
        seen |= before
        frontier = tuple(sorted(before))
    return tuple(sorted(candidates.keys() - seen - set(heads)))
