"""What a commit tells the other processes, on PostgreSQL's channel `annals`.

    {"g":"g1","p":[["rooms",3,124],...],"r":["!room",...],"u":["@user:x",...]}

g: generation; p: next offsets by topic and partition; r, u: rooms and users of which something changed. Where those are
too many to name, `"all":true` stands instead of both. A payload has a limit, so that one commit may send several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from annals.eventlog.api import TopicPartition
from annals.projectors.folding import Moved

CHANNEL = "annals"
#: PostgreSQL's limit is 8000 bytes.
PAYLOAD_BYTES_MAX = 7_900
PAYLOADS_MAX = 6


@dataclass(frozen=True, slots=True)
class Notice:
    """One payload, understood. `everything`: any room and user may have changed."""

    generation: str
    positions: Mapping[TopicPartition, int]
    rooms: frozenset[str]
    users: frozenset[str]
    everything: bool


def payloads(generation: str, positions: Mapping[TopicPartition, int], moved: Moved) -> list[str]:
    """The payloads of one commit."""
    head = {"g": generation, "p": [[topic, partition, offset] for (topic, partition), offset in positions.items()]}
    room = PAYLOAD_BYTES_MAX - len(orjson.dumps(head)) - len(b',"r":[],"u":[]')
    ids = [("r", room_id) for room_id in sorted(moved.rooms)] + [("u", user_id) for user_id in sorted(moved.users)]
    parts: list[dict[str, list[str]]] = [{}]
    left = room
    for kind, name in ids:
        size = len(orjson.dumps(name)) + 1
        if size > left:
            parts.append({})
            left = room
        parts[-1].setdefault(kind, []).append(name)
        left -= size
    if len(parts) > PAYLOADS_MAX:
        parts = [{}]
        return [orjson.dumps({**head, "all": True}).decode()]
    return [orjson.dumps({**head, **part}).decode() for part in parts]


def understood(payload: str) -> Notice:
    """The notice in a payload; ValueError for what `payloads` did not make."""
    try:
        value = orjson.loads(payload)
        positions = {(topic, partition): offset for topic, partition, offset in value["p"]}
        rooms, users = frozenset(value.get("r", ())), frozenset(value.get("u", ()))
        return Notice(value["g"], positions, rooms, users, bool(value.get("all")))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a notice: {payload[:200]!r}") from error
