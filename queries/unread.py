"""Unread counts: how many events since a user's read receipt notify, by the user's push rules.

Computed from the tables alone, so that no restart changes them. The events of a room come by their ids, at most
UNREAD_MAX (queries/room_facts.py); the text of one is read when it is judged, which is once as long as nothing changes
that push rules ask of the room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.power_levels import PowerLevels
from annals.matrix.push_conditions import Occasion
from annals.matrix.push_rules import CompiledRuleset, compile_ruleset, full_ruleset
from annals.projectors.rooms.read import shown_event
from annals.queries.client_events import EventRow
from annals.queries.room_facts import COUNTED_MAX, RoomFacts

_JUDGEMENTS_KEPT = 50_000

_TEXTS_SQL = """
    SELECT e.room_id, e.event_id, e.room_version, e.client_json, e.depth
    FROM unnest(%s::text[], %s::text[]) AS w(room_id, event_id)
    JOIN events e ON e.room_id = w.room_id AND e.event_id = w.event_id
"""

_Named = tuple[str, str]
"""Room id and event id."""
_Judgement = tuple[bool, bool]
"""Whether it notifies, and whether it is a highlight too."""


@dataclass(frozen=True, slots=True)
class Unread:
    """What a client shows beside a room."""

    notifications: int = 0
    highlights: int = 0


@dataclass(frozen=True, slots=True)
class _Text:
    """What of an event is judged, as stored."""

    room_version: str
    client_json: str
    depth: int


def unread_counts(
    snapshot: Snapshot, facts: Mapping[str, RoomFacts], at_hand: Iterable[EventRow], user_id: str
) -> dict[str, Unread]:
    """How many of each room's unread events notify the user. `at_hand`: events that were read anyway."""
    bases = {room_id: _basis(of_room, user_id) for room_id, of_room in facts.items() if of_room.unread}
    judged: dict[_Named, _Judgement] = {}
    new: list[_Named] = []
    for room_id, basis in bases.items():
        for event_id in facts[room_id].unread:
            known = _judgements.get((event_id, basis))
            if known is None:
                new.append((room_id, event_id))
            else:
                judged[room_id, event_id] = known
    for (room_id, event_id), judgement in _judge(snapshot, new, facts, at_hand, user_id):
        judged[room_id, event_id] = judgement
        _judgements.put((event_id, bases[room_id]), judgement)
    return {room_id: _count([judged[room_id, one] for one in of_room.unread]) for room_id, of_room in facts.items()}


def _basis(facts: RoomFacts, user_id: str) -> bytes:
    """What stands for all that a judgement depends on beside the event, the text of which never changes."""
    joined = min(facts.joined, COUNTED_MAX)
    basis = (user_id, facts.create_json, facts.levels_json, facts.levels_redacted, facts.own_json, joined)
    return sha256(repr(basis).encode()).digest()


def _count(judged: Sequence[_Judgement]) -> Unread:
    notify = [highlight for notifies, highlight in judged if notifies]
    return Unread(len(notify), sum(notify))


def _judge(
    snapshot: Snapshot,
    new: Sequence[_Named],
    facts: Mapping[str, RoomFacts],
    at_hand: Iterable[EventRow],
    user_id: str,
) -> Iterator[tuple[_Named, _Judgement]]:
    if not new:
        return
    texts = {(e.room_id, e.event_id): _Text(e.room_version, e.client_json, e.depth) for e in at_hand}
    if lacking := [named for named in new if named not in texts]:
        for room_id, event_id, *stored in snapshot.rows(_TEXTS_SQL, [list(ids) for ids in zip(*lacking, strict=True)]):
            texts[restore(room_id), restore(event_id)] = _Text(*stored)
    rooms = {room_id: _Room.of(facts[room_id]) for room_id in dict.fromkeys(room_id for room_id, _ in new)}
    for room_id, event_id in new:
        text, room = texts[room_id, event_id], rooms[room_id]
        event = shown_event(restore(text.client_json), text.room_version, event_id, text.depth)
        level = room.levels.user(event.sender)
        occasion = Occasion(event, room.member_count, level, room.notification_levels, room.display_name)
        actions = _ruleset(user_id).evaluate(occasion)
        yield (room_id, event_id), (bool(actions.notify), bool(actions.highlight))


@dataclass(frozen=True, slots=True)
class _Room:
    """What push rules ask of a room."""

    levels: PowerLevels
    member_count: int
    notification_levels: Mapping[str, object]
    display_name: str | None

    @classmethod
    def of(cls, facts: RoomFacts) -> _Room:
        create, levels = (
            shown_event(restore(text), facts.room_version, "", redacted=redacted)
            if text and facts.room_version
            else None
            for text, redacted in ((facts.create_json, False), (facts.levels_json, bool(facts.levels_redacted)))
        )
        of_notifications = levels.content.get("notifications") if levels else None
        content = loads(restore(facts.own_json)).get("content", {}) if facts.own_json else {}
        name = content.get("displayname")
        return cls(
            PowerLevels.of(create, levels),
            facts.joined,
            of_notifications if isinstance(of_notifications, dict) else {},
            name if isinstance(name, str) else None,
        )


class _Judgements:
    """The latest judgements of push rules, which are pure, by event id and basis."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, bytes], _Judgement] = OrderedDict()

    def get(self, key: tuple[str, bytes]) -> _Judgement | None:
        return self._kept.get(key)

    def put(self, key: tuple[str, bytes], judged: _Judgement) -> None:
        self._kept[key] = judged
        if len(self._kept) > _JUDGEMENTS_KEPT:
            self._kept.popitem(last=False)


_judgements = _Judgements()


@lru_cache(maxsize=1_000)
def _ruleset(user_id: str) -> CompiledRuleset:
    return compile_ruleset(user_id, full_ruleset(user_id, {}, {}))
