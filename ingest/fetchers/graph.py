"""Orders and connections among events of an answer. Pure; walks are iterative and see each event once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from annals.matrix.events import Event

Edges = Callable[[Event], tuple[str, ...]]


def by_prev(event: Event) -> tuple[str, ...]:
    """What an event follows."""
    return event.prev_events


def by_auth(event: Event) -> tuple[str, ...]:
    """What an event cites."""
    return event.auth_events


def reached(events: Mapping[str, Event], starts: Iterable[str], limit: int, edges: Edges = by_prev) -> list[Event]:
    """The events that `starts` lead to over one another, nearest first, at most `limit`.

    What hangs together with nothing that was asked for is left out: nobody lacks it.
    """
    found: dict[str, Event] = {}
    todo = list(dict.fromkeys(starts))
    while todo and len(found) < limit:
        following: dict[str, None] = {}
        for event_id in todo:
            event = events.get(event_id)
            if event is None or event_id in found or len(found) >= limit:
                continue
            found[event_id] = event
            following.update(dict.fromkeys(edges(event)))
        todo = list(following)
    return list(found.values())


def ordered(events: Iterable[Event], edges: Edges) -> list[Event]:
    """Each event behind those of the others that it leads to. Events in a circle, and behind one, are left out:
    ids that are hashes make none, chosen ones can."""
    by_id = {event.event_id: event for event in events}
    lacking = {event_id: {other for other in edges(event) if other in by_id} for event_id, event in by_id.items()}
    behind: dict[str, list[str]] = {}
    for event_id, others in lacking.items():
        for other in others:
            behind.setdefault(other, []).append(event_id)
    ready = [event_id for event_id, others in lacking.items() if not others]
    done: list[Event] = []
    for event_id in ready:
        done.append(by_id[event_id])
        for other in behind.get(event_id, ()):
            lacking[other].discard(event_id)
            if not lacking[other]:
                ready.append(other)
    return done


def well_founded(events: Iterable[Event], here: Collection[str], edges: Edges = by_auth) -> list[Event]:
    """In their order: the events that lead only to what is here, or to others of these that are well founded."""
    kept: dict[str, Event] = {}
    for event in ordered(events, edges):
        if all(other in kept or other in here for other in edges(event)):
            kept[event.event_id] = event
    return list(kept.values())
