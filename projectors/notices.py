"""What a commit tells the other processes, on PostgreSQL's channel `annals`.

    {"g":"g1","p":[["rooms",3,124],...],"h":{"!room":"$event",...},"r":["!room",...],"u":["@user:x",...],"w":[]}

g: generation; p: next offsets by topic and partition; h, r, u: rooms and users of which something changed, those in h
with their only forward extremity; w: the errands that the commit leaves to others. Where rooms and users are too many
to name, `"all":true` stands instead of them. A payload has a limit, so that one commit may send several; the positions
come with the last.

A switch of generations says `"s":true` and `"all":true`: from here on g answers readers, from positions p.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from annals.eventlog.api import TopicPartition
from annals.projectors.moved import Moved

CHANNEL = "annals"
#: PostgreSQL's limit is 8000 bytes.
PAYLOAD_BYTES_MAX = 7_900
PAYLOADS_MAX = 6
#: Errands: a room lacks something; a handshake began or ended; an event waits for a policy server; users of other
#: servers came or went.
GAPS, HANDSHAKES, POLICY, SERVERS = "gaps", "handshakes", "policy", "servers"


@dataclass(frozen=True, slots=True)
class Notice:
    """One payload, understood. `everything`: any room and user may have changed; `switched`: another generation
    serves. `errands`: None where that is not known (another version of the projector)."""

    generation: str
    positions: Mapping[TopicPartition, int]
    rooms: frozenset[str]
    users: frozenset[str]
    everything: bool
    heads: Mapping[str, str] = field(default_factory=dict)
    switched: bool = False
    errands: frozenset[str] | None = None

    def calls_for(self, errand: str) -> bool:
        """Whether there may be something to do of that kind."""
        return self.everything or self.errands is None or errand in self.errands


def payloads(generation: str, positions: Mapping[TopicPartition, int], moved: Moved) -> list[str]:
    """The payloads of one commit."""
    head = {"g": generation, "p": [[topic, partition, offset] for (topic, partition), offset in positions.items()]}
    # With each payload: who does these looks at the rooms that stand beside them.
    head["w"] = sorted(moved.errands)
    room = PAYLOAD_BYTES_MAX - len(orjson.dumps(head)) - len(b',"h":{},"r":[],"u":[]')
    ids = [("r", room_id) for room_id in sorted(moved.rooms)] + [("u", user_id) for user_id in sorted(moved.users)]
    parts: list[dict[str, Any]] = [{}]
    left = room
    for kind, name in ids:
        extremity = moved.heads.get(name)
        size = len(orjson.dumps(name)) + 1 + (0 if extremity is None else len(orjson.dumps(extremity)) + 1)
        if size > left:
            parts.append({})
            left = room
        if extremity is None:
            parts[-1].setdefault(kind, []).append(name)
        else:
            parts[-1].setdefault("h", {})[name] = extremity
        left -= size
    if len(parts) > PAYLOADS_MAX:
        return [orjson.dumps({**head, "all": True}).decode()]
    # Positions come with the last one: who waits for them must not wake before caches have heard of every name.
    return [orjson.dumps({**head, "p": [], **part}).decode() for part in parts[:-1]] + [
        orjson.dumps({**head, **parts[-1]}).decode()
    ]


def switch_payload(generation: str, positions: Mapping[TopicPartition, int]) -> str:
    """The payload of a switch to `generation`."""
    vector = [[topic, partition, offset] for (topic, partition), offset in positions.items()]
    return orjson.dumps({"g": generation, "p": vector, "all": True, "s": True}).decode()


def understood(payload: str) -> Notice:
    """The notice in a payload; ValueError for what `payloads` did not make."""
    try:
        value = orjson.loads(payload)
        positions = {(topic, partition): offset for topic, partition, offset in value["p"]}
        heads: dict[str, str] = value.get("h", {})
        rooms, users = frozenset(value.get("r", ())) | heads.keys(), frozenset(value.get("u", ()))
        errands = frozenset(value["w"]) if "w" in value else None
        everything, switched = bool(value.get("all")), bool(value.get("s"))
        return Notice(value["g"], positions, rooms, users, everything, heads, switched, errands)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a notice: {payload[:200]!r}") from error
