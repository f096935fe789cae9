"""PUT /_matrix/federation/v1/send, end to end: from another server's transaction to what our users see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from annals.eventlog.api import Append
from annals.ingest.inbound.receiver import WAITING_MAX, Receiver, RecordWriter
from annals.ingest.inbound.transaction import Transaction, TransactionRefused
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.verification import Candidate, KeyUnavailable, Outcome, Quarantined
from annals.schemas.codec import decode
from annals.schemas.facts.decisions import Verdict
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.quarantine import InputQuarantined
from annals.schemas.facts.receipts import ReceiptSet
from annals.schemas.facts.rooms import PduReceived
from annals.schemas.records import Addressed
from tests.support.remote_server import RemoteServer, now_ms, verdict
from tests.support.server import LiveServer, User, bodies
from tests.support.server_fixtures import on_both_logs
from tests.support.waiting import until

SEND = "/_matrix/federation/v1/send/"


def facts_of(server: LiveServer, topic: str, kind: type[Any]) -> list[Any]:
    """All facts of a kind on a topic."""
    log = server.house.log
    found = [
        decode(record.value)
        for partition in range(log.partitions(topic))
        for record in log.read(topic, partition, 0, max_records=100_000, max_bytes=1 << 30)
        if record.value is not None
    ]
    return [fact for fact in found if isinstance(fact, kind)]


def quarantined(server: LiveServer, remote: RemoteServer) -> list[InputQuarantined]:
    """What of a server did not pass."""
    return [fact for fact in facts_of(server, "quarantine", InputQuarantined) if fact.origin == remote.name]


def received(server: LiveServer, remote: RemoteServer) -> list[PduReceived]:
    """What of a server did."""
    return [fact for fact in facts_of(server, "rooms", PduReceived) if fact.origin == remote.name]


def shared_room(server: LiveServer, version: str = "12", **fields: Any) -> tuple[User, RemoteServer, str, str]:
    """A public room of alice's that a user of another server has joined."""
    alice, remote = server.user("alice"), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat", room_version=version, **fields)
    bob = remote.user("bob")
    remote.join(room_id, bob)
    return alice, remote, room_id, bob


@pytest.mark.parametrize("version", ["1", "3", "6", "10", "11", "12"])
def test_what_another_server_says_is_heard(server: LiveServer, version: str) -> None:
    alice, remote, room_id, bob = shared_room(server, version)
    remote.push(*remote.chain(room_id, bob, ["one", "two", "three"]))
    assert bodies(alice.messages(room_id)["chunk"])[:3] == ["three", "two", "one"]


@on_both_logs
def test_a_bad_pdu_keeps_nothing_else_waiting(server: LiveServer) -> None:
    alice, remote, room_id, bob = shared_room(server, "10")
    one, two = remote.chain(room_id, bob, ["good one", "good two"])
    forged = {**one.pdu, "depth": 77}
    stranger = RemoteServer(server).build(room_id, bob, "m.room.message", {"body": "forged"})
    changed = {**two.pdu, "content": {"body": "another"}}
    status, answer = remote.send(
        [7, None, {}, {"room_id": room_id}, one.pdu, stranger.pdu, forged, {**one.pdu, "room_id": 5}, changed]
    )
    assert status == 200
    results = answer["pdus"]
    assert results[one.event_id] == {}
    # "If the content hash does not match, redact the event": it is an event all the same, of the same id.
    assert results[two.event_id] == {}
    assert "signature_invalid" in results[stranger.event_id]["error"]
    # `forged` has an id of its own; what has none, or no room, is left out.
    assert len(results) == 4
    remote.wait_for(two)
    assert bodies(alice.messages(room_id)["chunk"])[:1] == ["good one"]
    reasons = [fact.reason for fact in quarantined(server, remote)]
    assert sorted(reasons) == ["malformed", "signature_invalid", "signature_invalid"]
    remote.push(*remote.chain(room_id, bob, ["afterwards"]))


@on_both_logs
def test_the_same_transaction_gets_the_same_answer(server: LiveServer) -> None:
    _, remote, room_id, bob = shared_room(server)
    [event] = remote.chain(room_id, bob, ["once"])
    wrong = {**event.pdu, "depth": 1}
    first = remote.send([event.pdu, wrong], transaction_id="same")
    assert remote.send([], transaction_id="same") == first
    [another] = remote.chain(room_id, bob, ["not in it"])
    assert remote.send([another.pdu], transaction_id="same") == first
    assert another.event_id not in {fact.event_id for fact in received(server, remote)}
    # Another process, which has nothing in memory, says the same.
    house = server.house

    async def elsewhere() -> bytes:
        with ThreadPoolExecutor(1) as threads:
            verifier = PduVerifier(house.peers.keyring, threads)
            other = Receiver(house.appender, house.database, verifier, threads, "test", now_ms)
            return await other.receive(remote.name, "same", {"pdus": [event.pdu]})

    assert first[1] == json.loads(server.on_loop(elsewhere()))
    assert len([fact for fact in received(server, remote) if fact.event_id == event.event_id]) == 1
    # The same id of another server is another transaction.
    assert RemoteServer(server).send([], transaction_id="same") == (200, {"pdus": {}})


def test_the_same_transaction_twice_at_once_is_one(server: LiveServer) -> None:
    _, remote, room_id, bob = shared_room(server)
    events = remote.chain(room_id, bob, [str(n) for n in range(5)])
    receiver, content = server.services.receiver, {"pdus": [event.pdu for event in events]}

    async def at_once() -> list[bytes]:
        return await asyncio.gather(*(receiver.receive(remote.name, "twice", content) for _ in range(5)))

    answers = server.on_loop(at_once())
    assert len(set(answers)) == 1
    remote.wait_for(events[-1])
    assert len(received(server, remote)) == 1 + 5


class _Together:
    """Writers of so many processes, each of which has looked at the tables before any of them appends."""

    def __init__(self, writer: RecordWriter, processes: int) -> None:
        self._writer, self._to_come, self._all = writer, processes, asyncio.Event()

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        return self._writer.envelope(cause, idempotency_key)

    async def submit_records(self, records: Sequence[Addressed]) -> object:
        self._to_come -= 1
        if not self._to_come:
            self._all.set()
        await self._all.wait()
        return await self._writer.submit_records(records)


class _KeysLacking(PduVerifier):
    """Of a process that cannot have the key of what does not pass."""

    async def verify(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        retry_at_ms = now_ms() + 3_600_000
        return [
            KeyUnavailable(outcome.event_id or "", (), "no key now", retry_at_ms)
            if isinstance(outcome, Quarantined)
            else outcome
            for outcome in await super().verify(candidates)
        ]


@on_both_logs
def test_two_processes_that_take_the_same_transaction_at_once_are_one(server: LiveServer) -> None:
    """Each may log it: an event is decided once, by its id, and a message for a device by its own."""
    alice, remote, room_id, bob = shared_room(server, "10")
    events, house = remote.chain(room_id, bob, ["one", "two"]), server.house
    stranger = RemoteServer(server).build(room_id, bob, "m.room.message", {"body": "forged"})
    content = {
        "pdus": [*(event.pdu for event in events), stranger.pdu],
        "edus": [to_device(bob, {alice.id: {alice.device_id: {"n": 1}}})],
    }

    async def at_once() -> list[bytes]:
        together = _Together(house.appender, processes=2)
        with ThreadPoolExecutor(1) as threads:
            verifiers = [kind(house.peers.keyring, threads) for kind in (PduVerifier, _KeysLacking)]
            each = [Receiver(together, house.database, one, threads, "test", now_ms) for one in verifiers]
            return await asyncio.gather(*(receiver.receive(remote.name, "both", content) for receiver in each))

    one, other = server.on_loop(at_once())
    assert one == other
    assert json.loads(one)["pdus"].keys() == {*(event.event_id for event in events), stranger.event_id}
    remote.wait_for(events[-1])
    last = remote.chain(room_id, bob, ["behind"])
    remote.push(*last)
    ids = [event.event_id for event in (*events, *last)]
    logged = [fact.event_id for fact in received(server, remote)]
    assert [logged.count(event_id) for event_id in ids] == [2, 2, 1], "both were in the midst of it"
    decided = [fact.event_id for fact in facts_of(server, "decisions.g1", Verdict)]
    assert [decided.count(event_id) for event_id in ids] == [1, 1, 1]
    assert bodies(alice.messages(room_id)["chunk"])[:3] == ["behind", "two", "one"]
    sql = "SELECT message_id FROM to_device WHERE sender = %s"
    until(lambda: rows(server, sql, bob) == [(f"{remote.name}/m1",)], "the message, once")


def test_a_known_event_is_not_logged_again(server: LiveServer) -> None:
    _, remote, room_id, bob = shared_room(server)
    events = remote.chain(room_id, bob, ["a", "b"])
    remote.push(*events)
    before = len(received(server, remote))
    status, answer = remote.send([event.pdu for event in (*events, *events)])
    assert (status, answer) == (200, {"pdus": {event.event_id: {} for event in events}})
    assert len(received(server, remote)) == before


def test_too_many_of_them_are_none(server: LiveServer) -> None:
    _, remote, room_id, bob = shared_room(server)
    [event] = remote.chain(room_id, bob, ["x"])
    for pdus, edus in (([event.pdu] * 51, []), ([event.pdu], [{}] * 101), ({}, []), ([], "x")):
        status, answer = remote.call("PUT", SEND + "many", {"pdus": pdus, "edus": edus})
        assert (status, answer["errcode"]) == (400, "M_BAD_JSON")
    assert verdict(server, room_id, event.event_id) is None
    assert len(received(server, remote)) == 1
    status, _ = remote.call("PUT", SEND + "x" * 300, {"pdus": []})
    assert status == 400


def test_who_did_not_sign_the_request_is_not_heard(server: LiveServer) -> None:
    _, remote, room_id, bob = shared_room(server)
    [event] = remote.chain(room_id, bob, ["x"])
    content = {"pdus": [event.pdu]}
    for wrong in ({"destination": "other"}, {"target": SEND + "2"}, {"origin": "other.invalid"}):
        status, answer = remote.call("PUT", SEND + "1", content, **wrong)
        assert (status, answer["errcode"]) == (401, "M_UNAUTHORIZED")
    assert len(received(server, remote)) == 1


def test_rooms_that_we_left_and_rooms_of_others_cost_no_signature(server: LiveServer) -> None:
    alice, remote, room_id, bob = shared_room(server)
    alice.leave(room_id)
    [event] = remote.chain(room_id, bob, ["to nobody"])
    for pdu in (event.pdu, {**event.pdu, "room_id": "!elsewhere:nowhere"}, {"room_id": "!x"}):
        # The second time nothing of the room is remembered.
        for _ in range(2):
            assert remote.send([pdu]) == (200, {"pdus": {}})
    assert quarantined(server, remote) == []
    assert len(received(server, remote)) == 1


def test_what_cannot_be_checked_now_is_kept_to_be_tried_again(server: LiveServer) -> None:
    _, remote, room_id, _ = shared_room(server)
    unreachable = RemoteServer(server, has_keys=False)
    event = unreachable.build(room_id, unreachable.user(), "m.room.message", {"body": "x"})
    status, answer = remote.send([event.pdu])
    assert status == 200
    assert "error" in answer["pdus"][event.event_id]
    [fact] = quarantined(server, remote)
    assert (fact.reason, fact.event_id) == ("key_unavailable", event.event_id)
    assert fact.retry_at_ms is not None


def test_a_transaction_is_one_read_whatever_is_in_it(server: LiveServer) -> None:
    _, remote, room_id, bob = shared_room(server)
    remote.push(*remote.chain(room_id, bob, ["warm"]))
    remote.send(edus=[typing(room_id, bob)])
    events = remote.chain(room_id, bob, [str(n) for n in range(50)])
    edus = [typing(room_id, bob, number % 2 == 0) for number in range(20)]
    receiver = server.services.receiver
    seen: list[str] = []
    appends: list[int] = []
    content = {"pdus": [event.pdu for event in events], "edus": edus}

    async def counted() -> None:
        database, log = server.database, server.house.log
        append = log.append

        def watched(records: Sequence[Append]) -> Future[list[int]]:
            # The projectors append to the same log, decisions.
            if any(record.topic == "rooms" for record in records):
                appends.append(len(records))
            return append(records)

        database.on_statement = seen.append
        log.append = watched  # type: ignore[method-assign]
        try:
            await receiver.receive(remote.name, "counted", content)
        finally:
            database.on_statement = None
            log.append = append  # type: ignore[method-assign]

    server.on_loop(counted())
    mine = [sql for sql in seen if any(word in sql for word in ("transactions", "unnest", "rooms r"))]
    # The answer of before, rooms with their ACLs, events, users; and the answer is kept.
    assert len(mine) == 5, mine
    # Of what is said again and again about a user in a room the last counts.
    assert appends == [51]
    remote.wait_for(events[-1])


def typing(room_id: Any, user_id: Any, is_typing: Any = True) -> dict[str, Any]:
    """An m.typing EDU."""
    return {"edu_type": "m.typing", "content": {"room_id": room_id, "user_id": user_id, "typing": is_typing}}


def receipt(room_id: str, user_id: str, *event_ids: Any, **data: Any) -> dict[str, Any]:
    """An m.receipt EDU."""
    content = {room_id: {"m.read": {user_id: {"event_ids": list(event_ids), "data": {"ts": 5, **data}}}}}
    return {"edu_type": "m.receipt", "content": content}


def who_types(user: User, room_id: str) -> list[str]:
    """As /sync has it."""
    ephemeral = user.sync()["rooms"]["join"][room_id]["ephemeral"]["events"]
    return [name for event in ephemeral if event["type"] == "m.typing" for name in event["content"]["user_ids"]]


@on_both_logs
def test_who_types_and_who_has_read_is_shown(server: LiveServer) -> None:
    alice, remote, room_id, bob = shared_room(server)
    event_id = alice.say(room_id, "read this")
    status, _ = remote.send(edus=[typing(room_id, bob), receipt(room_id, bob, event_id, thread_id="main")])
    assert status == 200
    until(lambda: who_types(alice, room_id) == [bob], "bob to type")

    def read_up_to() -> Any:
        events = alice.sync()["rooms"]["join"][room_id]["ephemeral"]["events"]
        return [event["content"] for event in events if event["type"] == "m.receipt"]

    expected = {event_id: {"m.read": {bob: {"ts": 5, "thread_id": "main"}}}}
    until(lambda: read_up_to() == [expected], "bob's receipt")
    remote.send(edus=[typing(room_id, bob, False)])
    until(lambda: who_types(alice, room_id) == [], "bob to stop")


def test_edus_that_make_no_sense_are_left_out(server: LiveServer) -> None:
    alice, remote, room_id, bob = shared_room(server)
    event_id = alice.say(room_id, "x")
    stranger = remote.user("stranger")
    edus = [
        *(7, None, {}, {"edu_type": 7}, {"edu_type": "m.typing"}, {"edu_type": "org.unknown", "content": {}}),
        *(typing(room_id, bob, "yes"), typing(7, bob), typing("!nowhere", bob), typing(room_id, stranger)),
        *(receipt(room_id, bob), receipt(room_id, bob, 7), receipt(room_id, bob, event_id, thread_id=7)),
        *(receipt("!nowhere", bob, event_id), receipt(room_id, stranger, event_id)),
        {"edu_type": "m.receipt", "content": {room_id: {"m.read.private": {bob: {"event_ids": [event_id]}}}}},
        {"edu_type": "m.receipt", "content": {room_id: {"m.read": {bob: 7}, "x": 1}, "!b": 7}},
        receipt(room_id, bob, event_id, ts="late"),
    ]
    assert remote.send(edus=edus) == (200, {"pdus": {}})
    [kept] = [fact for fact in facts_of(server, "receipts", ReceiptSet) if fact.room_id == room_id]
    assert (kept.user_id, kept.event_id, kept.receipt_type) == (bob, event_id, "m.read")
    assert abs(kept.ts_ms - now_ms()) < 3600 * 1000


def rows(server: LiveServer, sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """Rows of the tables."""
    return server.on_loop(server.database.read(lambda snapshot: snapshot.rows(sql, params)))


def to_device(sender: str, messages: Any, message_id: str = "m1") -> dict[str, Any]:
    """An m.direct_to_device EDU."""
    content = {"sender": sender, "type": "m.x", "message_id": message_id, "messages": messages}
    return {"edu_type": "m.direct_to_device", "content": content}


@on_both_logs
def test_messages_for_devices_are_kept_for_devices_that_are_there(server: LiveServer) -> None:
    alice, carol, remote = server.user("alice"), server.user("carol"), RemoteServer(server)
    bob = remote.user("bob")
    messages = {
        alice.id: {alice.device_id: {"n": 1}, "NONE": {"n": 2}},
        carol.id: {"*": {"n": 3}, carol.device_id: "text"},
        "@nobody:test": {"*": {"n": 4}},
        "@other:elsewhere": {"*": {"n": 5}},
        "junk": {"*": {}},
        alice.id.upper(): 7,
    }
    edus = [to_device(bob, messages), to_device(bob, 7), to_device("@x:y", messages), to_device(bob, {}, "")]
    for _ in range(2):
        assert remote.send(edus=edus) == (200, {"pdus": {}})
    sql = "SELECT user_id, device_id, message_id, sender, content FROM to_device WHERE sender = %s ORDER BY 1"
    expected = [
        (alice.id, alice.device_id, f"{remote.name}/m1", bob, b'{"n":1}'),
        (carol.id, carol.device_id, f"{remote.name}/m1", bob, b'{"n":3}'),
    ]
    until(
        lambda: [(*row[:4], bytes(row[4])[1:]) for row in rows(server, sql, bob)] == expected,
        "the messages",
    )


@on_both_logs
def test_what_is_told_of_devices_is_kept_of_users_that_share_a_room(server: LiveServer) -> None:
    _, remote, _, bob = shared_room(server)
    stranger = remote.user("stranger")

    def told(user_id: str, **more: Any) -> list[dict[str, Any]]:
        device = {"user_id": user_id, "device_id": "D", "stream_id": 5, "prev_id": [4, "x"], "keys": {"a": 1}, **more}
        return [
            {"edu_type": "m.device_list_update", "content": device},
            {"edu_type": "m.signing_key_update", "content": {"user_id": user_id, "master_key": {"k": 1}}},
            {"edu_type": "m.signing_key_update", "content": {"user_id": user_id, "self_signing_key": {"k": 2}}},
            {"edu_type": "m.signing_key_update", "content": {"user_id": user_id, "master_key": "junk"}},
        ]

    edus = [*told(bob), *told(bob, device_id=7), *told(bob, stream_id=2**64), *told(stranger)]
    assert remote.send(edus=[*edus, *told(bob, stream_id=6, deleted=True, keys=None)])[0] == 200
    sql = "SELECT user_id, device_id, stream_id, prev_ids, deleted, keys FROM device_lists WHERE user_id = ANY (%s)"
    expected = [(bob, "D", 6, [4], True, None)]
    until(lambda: rows(server, sql, [bob, stranger]) == expected, "the device")
    sql = "SELECT user_id, master_key, self_signing_key FROM device_lists_signing_keys WHERE user_id = ANY (%s)"
    [(user_id, master, self_signing)] = rows(server, sql, [bob, stranger])
    assert (user_id, bytes(master)[1:], bytes(self_signing)[1:]) == (bob, b'{"k":1}', b'{"k":2}')


def test_a_server_that_sends_too_many_at_once_is_told_to_wait(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, remote, room_id, bob = shared_room(server)
    other, receiver = RemoteServer(server), server.services.receiver
    [event] = remote.chain(room_id, bob, ["x"])
    take = receiver._take

    async def scenario() -> tuple[list[Any], bytes]:
        gate = asyncio.Event()

        async def slow(transaction: Transaction) -> bytes:
            if transaction.origin == remote.name:
                await gate.wait()
            return await take(transaction)

        monkeypatch.setattr(receiver, "_take", slow)
        asked = [
            asyncio.ensure_future(receiver.receive(remote.name, f"flood{n}", {"pdus": [event.pdu]}))
            for n in range(WAITING_MAX + 5)
        ]
        # Another server waits for nobody.
        answer = await receiver.receive(other.name, "1", {"pdus": []})
        gate.set()
        return await asyncio.gather(*asked, return_exceptions=True), answer

    outcomes, answer = server.on_loop(scenario())
    refused = [outcome.status for outcome in outcomes if isinstance(outcome, TransactionRefused)]
    assert refused == [429] * 5
    assert answer == b'{"pdus":{}}'
    assert len([outcome for outcome in outcomes if isinstance(outcome, bytes)]) == WAITING_MAX


def test_a_join_that_ends_while_a_transaction_is_taken_loses_nothing(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, remote, room_id, bob = shared_room(server)
    [event] = remote.chain(room_id, bob, ["just in time"])
    receiver = server.services.receiver
    learn, asked = receiver._learn, []

    async def too_early(room_ids: Any) -> None:
        asked.append(room_ids)
        if len(asked) > 1:
            await learn(room_ids)

    receiver._rules.clear()
    monkeypatch.setattr(receiver, "_learn", too_early)
    remote.push(event)
    assert len(asked) == 2
