"""However many receipts, presences and messages a transaction holds: all of them go on the log, or it is refused whole.

"Nothing is silent": what was answered with 200 is on the log.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from annals.database.pool import Database
from annals.ingest.inbound.receiver import BATCH_RECORDS, Receiver
from annals.ingest.inbound.standing import Found, Wanted
from annals.ingest.inbound.transaction import ENTRIES_MAX, TransactionRefused, entries_of
from annals.ingest.pdu_verifier import PduVerifier
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms.standing import RoomStanding
from annals.schemas.codec import decode
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.ephemeral import PresenceSet
from annals.schemas.facts.quarantine import InputQuarantined
from annals.schemas.facts.receipts import ReceiptSet
from annals.schemas.facts.to_device import ToDeviceSent
from annals.schemas.records import Addressed
from tests.support.rooms import envelope

THEM, US, ALICE, ROOM = "them.example", "us.example", "@alice:us.example", "!room:us.example"
MANY = 2_500


class _Writer:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.appends: list[int] = []
        self.facts: list[Fact] = []

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        return envelope()

    async def submit_records(self, records: Sequence[Addressed]) -> object:
        self.appends.append(len(records))
        self.facts += [decode(record.value) for record in records if record.value is not None]
        return None


class _Tables:
    """Whoever is asked for is in the room, and shares one with us."""

    answer = None

    async def read(self, work: Any) -> Found:
        return cast("Found", work(None))

    async def write(self, work: Any) -> str:
        return '{"pdus":{}}'


def _all_there(_: Any, wanted: Wanted) -> Found:
    standing = RoomStanding(ROOM_VERSIONS["10"], joined=True, acl=None)
    devices = {ALICE: [f"D{number}" for number in range(MANY)]}
    return Found(
        dict.fromkeys(wanted.rooms, standing),
        {},
        {},
        {},
        frozenset(),
        frozenset(wanted.members),
        devices,
        frozenset(wanted.owners),
        None,
    )


def _taken(monkeypatch: pytest.MonkeyPatch, edus: list[dict[str, Any]]) -> _Writer:
    """What a transaction with these EDUs puts on the log."""
    monkeypatch.setattr("annals.ingest.inbound.receiver.look", _all_there)
    writer = _Writer()

    async def receive() -> None:
        with ThreadPoolExecutor(1) as threads:
            database, verifier = cast("Database", _Tables()), cast("PduVerifier", None)
            receiver = Receiver(writer, database, verifier, threads, US, lambda: 1_000)
            await receiver.receive(THEM, "1", {"edus": edus})

    asyncio.run(receive())
    return writer


def _edu(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"edu_type": kind, "content": content}


def _users(count: int) -> list[str]:
    return [f"@u{number}:{THEM}" for number in range(count)]


def test_every_receipt_is_on_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    first, rest = _users(MANY)[:10], _users(MANY)[10:]
    by_user = [{user_id: {"event_ids": ["$e"], "data": {"ts": 1}} for user_id in users} for users in (first, rest)]
    writer = _taken(monkeypatch, [_edu("m.receipt", {ROOM: {"m.read": users}}) for users in by_user])
    assert {fact.user_id for fact in writer.facts if isinstance(fact, ReceiptSet)} == {*_users(MANY)}
    # Never all of their records at once in memory.
    assert len(writer.appends) == 3
    assert max(writer.appends) == BATCH_RECORDS


def test_every_presence_is_on_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    push = [{"user_id": user_id, "presence": "online"} for user_id in _users(MANY)]
    writer = _taken(monkeypatch, [_edu("m.presence", {"push": push})])
    assert {fact.user_id for fact in writer.facts if isinstance(fact, PresenceSet)} == {*_users(MANY)}


def test_every_message_for_a_device_that_is_named_is_on_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    named: dict[str, Any] = {ALICE: {f"D{number}": {} for number in range(MANY)}}
    edus = [
        _edu("m.direct_to_device", {"sender": f"@b:{THEM}", "type": "t", "message_id": f"m{n}", "messages": named})
        for n in range(5)
    ]
    writer = _taken(monkeypatch, edus)
    assert len({(fact.device_id, fact.message_id) for fact in writer.facts if isinstance(fact, ToDeviceSent)}) == 12_500


def test_what_would_be_copied_too_often_is_on_the_log_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_hers: dict[str, Any] = {ALICE: {"*": {}}}
    said = {"sender": f"@b:{THEM}", "type": "t", "messages": all_of_hers}
    edus = [_edu("m.direct_to_device", {**said, "message_id": f"m{n}"}) for n in range(6)]
    monkeypatch.setattr("annals.ingest.inbound.devices.COPIES_MAX", 4 * MANY)
    writer = _taken(monkeypatch, edus)
    assert len([fact for fact in writer.facts if isinstance(fact, ToDeviceSent)]) == 4 * MANY
    [kept] = [fact for fact in writer.facts if isinstance(fact, InputQuarantined)]
    assert (kept.origin, kept.kind, kept.reason) == (THEM, "edu", "too_many")
    assert kept.detail.startswith("2 messages for every device")
    names = [{"message_id": f"{THEM}/m{n}", "user_id": ALICE} for n in (4, 5)]
    assert isinstance(kept.original, bytes)
    assert json.loads(kept.original) == names


def test_a_transaction_with_more_than_can_be_taken_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    half = dict.fromkeys(_users(ENTRIES_MAX // 2), 7)
    edus = [_edu("m.receipt", {ROOM: {"m.read": half}}), _edu("m.receipt", {ROOM: {"m.read": half}})]
    assert entries_of(edus) == ENTRIES_MAX
    with pytest.raises(TransactionRefused) as refused:
        _taken(monkeypatch, [*edus, _edu("m.typing", {"room_id": ROOM, "user_id": f"@b:{THEM}", "typing": True})])
    assert (refused.value.status, refused.value.errcode) == (413, "M_TOO_LARGE")


@pytest.mark.parametrize(
    ("content", "count"),
    [
        ({ROOM: {"m.read": {"@a:b": {}, "@c:d": {}}}, "!other": {"m.read": {"@a:b": {}}}}, 3),
        ({"push": [1, 2, 3]}, 3),
        ({"sender": "@b:c", "messages": {"@a:b": {"D": {}, "E": {}}, "@c:d": {"*": {}}}}, 4),
        # What says nothing costs something all the same.
        ({f"!{number}": {} for number in range(9)}, 9),
        ({"x": {f"!{number}": {} for number in range(9)}}, 9),
        (7, 1),
        ({}, 1),
    ],
)
def test_what_counts(content: Any, count: int) -> None:
    assert entries_of([{"content": content}, "junk"]) == count + 1
