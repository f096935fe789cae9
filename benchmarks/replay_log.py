"""A log to replay: rooms of 2,000 PDUs each, interleaved, the same in every run. Signatures are made up.

Nine in ten are messages of about 700 bytes; the others are state events (profiles, joins and leaves, topics); now and
then two events stand on one head, which the next one merges. Half of the members are another server's.
"""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from annals.eventlog.api import Append, Log
from annals.eventlog.partition import partition_of
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.events import Event, StateKey, body, parse_event, skeleton
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.rooms import PduCreated, PduFact, PduReceived, SignatureChecked
from annals.schemas.records import record_of

OURS, THEIRS = "bench", "elsewhere"
VERSION = "12"
MEMBERS, STATE_SHARE, FORK_SHARE, TEXT_CHARACTERS = 20, 0.1, 0.005, 180
_STARTED_MS = 1_700_000_000_000
_RULES = ROOM_VERSIONS[VERSION]
_WORDS = ("every", "table", "can", "be", "dropped", "and", "made", "again", "from", "the", "log", "it", "is", "only")


@dataclass
class _Room:
    """A room as it grows; `heads` are its forward extremities."""

    rng: random.Random
    number: int
    room_id: str | None = None
    heads: list[str] = field(default_factory=list)
    state: dict[StateKey, str] = field(default_factory=dict)
    depth: int = 0
    sent: int = 0

    @property
    def members(self) -> list[str]:
        return [f"@user{number}:{(OURS, THEIRS)[number % 2]}" for number in range(MEMBERS)]

    def begin(self) -> Iterator[PduFact]:
        """Create it, and let everybody join."""
        owner = self.members[0]
        yield self.grow("m.room.create", owner, {"room_version": VERSION, "org.number": self.number}, "")
        yield self.join(owner)
        yield self.grow("m.room.power_levels", owner, {"state_default": 0}, "")
        yield self.grow("m.room.join_rules", owner, {"join_rule": "public"}, "")
        for member in self.members[1:]:
            yield self.join(member)

    def live(self) -> Iterator[PduFact]:
        """Whatever is said in it, without an end."""
        while True:
            sender = self.rng.choice(self.members)
            kept = list(self.heads)
            chance = self.rng.random()
            if chance >= STATE_SHARE:
                yield self.grow("m.room.message", sender, self._message())
            elif chance < STATE_SHARE / 2:
                yield self.join(sender)
            else:
                yield self.grow("m.room.topic", sender, {"topic": self._text(60)}, "")
            if self.rng.random() < FORK_SHARE:
                made, self.heads, depth = self.heads, kept, self.depth
                self.depth -= 1
                yield self.grow("m.room.message", self.rng.choice(self.members), self._message())
                self.heads, self.depth = [*made, *self.heads], depth

    def join(self, user: str) -> PduFact:
        return self.grow("m.room.member", user, {"membership": "join", "displayname": self._text(16)}, user)

    def grow(self, kind: str, sender: str, content: dict[str, Any], state_key: str | None = None) -> PduFact:
        """The next event, on all heads."""
        self.depth += 1
        pdu = {
            "type": kind,
            "sender": sender,
            "content": content,
            "prev_events": self.heads,
            "auth_events": self._auth(kind, sender, state_key),
            "depth": self.depth,
            "origin_server_ts": _STARTED_MS + self.depth * 1000 + self.number,
            "hashes": {"sha256": self._base64(32)},
            "signatures": {sender.partition(":")[2]: {"ed25519:key1": self._base64(64)}},
        }
        if self.room_id is not None:
            pdu["room_id"] = self.room_id
        if state_key is not None:
            pdu["state_key"] = state_key
        event = parse_event(pdu, _RULES)
        self.room_id = event.room_id
        self.heads = [event.event_id]
        if event.is_state:
            self.state[event.key] = event.event_id
        return self._fact(event)

    def _auth(self, kind: str, sender: str, state_key: str | None) -> list[str]:
        if kind == "m.room.create":
            return []
        keys: list[StateKey] = [("m.room.power_levels", ""), ("m.room.member", sender)]
        if kind == "m.room.member" and state_key is not None:
            keys.append(("m.room.join_rules", ""))
        return [self.state[key] for key in keys if key in self.state]

    def _fact(self, event: Event) -> PduFact:
        parts: dict[str, Any] = {
            "envelope": Envelope(event.origin_server_ts + 20, "api", "1"),
            "room_id": event.room_id,
            "event_id": event.event_id,
            "room_version": VERSION,
            "skeleton": canonical_bytes(skeleton(event.pdu, _RULES)),
            "body": canonical_bytes(body(event.pdu, _RULES)),
        }
        if event.sender.endswith(f":{OURS}"):
            # Of two that stand on one head the depth is the same.
            self.sent += 1
            key = f"{event.sender} DEVICE PUT /rooms/{event.room_id}/send/m.room.message/{self.sent}"
            return PduCreated(**parts | {"envelope": replace(parts["envelope"], idempotency_key=key)})
        checked = (SignatureChecked(THEIRS, "ed25519:key1", "valid"),)
        return PduReceived(
            **parts, origin=THEIRS, via=f"transaction {self.depth}", signatures=checked, content_hash_ok=True
        )

    def _message(self) -> dict[str, Any]:
        return {"msgtype": "m.text", "body": self._text(TEXT_CHARACTERS), "m.mentions": {}}

    def _text(self, characters: int) -> str:
        return " ".join(self.rng.choices(_WORDS, k=characters // 4))[:characters]

    def _base64(self, size_bytes: int) -> str:
        return b64encode(self.rng.randbytes(size_bytes)).decode().rstrip("=")


def facts(rooms: int, pdus: int) -> Iterator[PduFact]:
    """The first `pdus` facts of these rooms, which take turns."""
    made = [_Room(random.Random(number), number) for number in range(rooms)]
    stories = [_story(room) for room in made]
    for number in range(pdus):
        yield next(stories[number % rooms])


def _story(room: _Room) -> Iterator[PduFact]:
    yield from room.begin()
    yield from room.live()


def fill(log: Log, rooms: int, pdus: int, batch: int = 2_000) -> None:
    """Append them all."""
    count = log.partitions("rooms")
    waiting: list[Append] = []
    for fact in facts(rooms, pdus):
        record = record_of(fact)
        partition = partition_of(record.partition_key, count)
        waiting.append(Append(record.topic, partition, record.record_key, record.value))
        if len(waiting) == batch:
            log.append(waiting).result()
            waiting = []
    if waiting:
        log.append(waiting).result()
