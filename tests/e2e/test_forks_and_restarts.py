"""What a restart must not change, and what comes from other servers, on a running server with a real client.

Other servers' events are appended to its log as facts, as a process that hears them would.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from annals.eventlog.partition import partition_of
from annals.matrix.events import Event
from annals.rooms.heads import Intent
from annals.schemas.codec import decode
from annals.schemas.facts.rooms import PduFact
from annals.server.clock import now_ms
from annals.server.operator_access import opened_log
from tests.support.patience import PATIENCE_S
from tests.support.people import Person, people
from tests.support.projectors import append
from tests.support.rooms import Driver, received
from tests.support.servers import Serve


class Elsewhere:
    """What another server would make of a room, and say about it."""

    def __init__(self, server: Serve, room_id: str) -> None:
        self._config = server.config
        self._driver = Driver(room_id)
        with opened_log(self._config) as log:
            partition = partition_of(room_id, log.partitions("rooms"))
            facts = [decode(record.value) for record in log.read("rooms", partition, 0) if record.value is not None]
        self._driver.feed(*(fact for fact in facts if isinstance(fact, PduFact) and fact.room_id == room_id))

    def event(self, sender: str, event_type: str, content: dict[str, Any], state_key: str | None, at: int) -> Event:
        """An event on the room's head as of when this was made; `at` milliseconds from now."""
        rules = self._driver.view.known_header().rules
        assert rules
        return self._driver.build(Intent(sender, event_type, content, state_key), rules, now_ms() + at)

    def child_of(self, parent: Event, sender: str, body: str) -> Event:
        """A message that follows an event which nobody else knows."""
        self._driver.feed(received(parent))
        return self.event(sender, "m.room.message", {"msgtype": "m.text", "body": body}, None, 9)

    def tell(self, *events: Event) -> None:
        """Append them to the log of the running server, in this order."""
        with opened_log(self._config) as log:
            append(log, [received(event) for event in events])


def topics(section: dict[str, Any]) -> list[str]:
    return [e["event_id"] for e in section["events"] if e["type"] == "m.room.topic"]


async def newest(person: Person, room_id: str, **query: Any) -> dict[str, Any]:
    """The room's section of a /sync."""
    status, answer = await person.call("GET", "/sync", **query)
    assert status == 200, answer
    return {"next_batch": answer["next_batch"], **answer.get("rooms", {}).get("join", {}).get(room_id, {})}


async def until_shown(person: Person, room_id: str, event: Event, since: str) -> dict[str, Any]:
    """The first section that shows the event."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            shown = await newest(person, room_id, since=since, timeout=200)
            if any(e["event_id"] == event.event_id for e in shown.get("timeline", {}).get("events", [])):
                return shown


@pytest.mark.parametrize("version", [pytest.param("11", marks=pytest.mark.one_log), "12"])
def test_what_is_shown_after_a_fork_is_never_older(server: Serve, version: str) -> None:
    async def story() -> None:
        async with people(server, "alice") as (alice,):
            room_id = await alice.create(room_version=version, topic="old")
            start = (await newest(alice, room_id))["next_batch"]
            elsewhere = Elsewhere(server, room_id)
            one = elsewhere.event(alice.user_id, "m.room.topic", {"topic": "one"}, "", 1)
            two = elsewhere.event(alice.user_id, "m.room.topic", {"topic": "two"}, "", 2)
            late = elsewhere.event(alice.user_id, "m.room.message", {"msgtype": "m.text", "body": "late"}, None, 3)
            elsewhere.tell(one, two)
            shown = await until_shown(alice, room_id, two, start)
            elsewhere.tell(late)
            await until_shown(alice, room_id, late, shown["next_batch"])
            for _ in range(3):
                await alice.says(room_id, "on top")
            small = '{"room":{"timeline":{"limit":1}}}'
            after = await newest(alice, room_id, since=shown["next_batch"], filter=small)
            assert after["timeline"]["limited"]
            assert topics(after["state"]) == []

    asyncio.run(story())


def test_what_was_parked_reaches_a_client_whose_token_lies_between(server: Serve) -> None:
    async def story() -> None:
        async with people(server, "alice") as (alice,):
            room_id = await alice.create()
            elsewhere = Elsewhere(server, room_id)
            parent = elsewhere.event(alice.user_id, "m.room.message", {"msgtype": "m.text", "body": "parent"}, None, 1)
            child = elsewhere.child_of(parent, alice.user_id, "child")
            elsewhere.tell(child)
            await alice.says(room_id, "meanwhile")
            between = await newest(alice, room_id)
            assert child.event_id not in str(between)
            elsewhere.tell(parent)
            shown = await until_shown(alice, room_id, child, between["next_batch"])
            assert [e["event_id"] for e in shown["timeline"]["events"]] == [parent.event_id, child.event_id]

    asyncio.run(story())


def test_a_restart_changes_nothing_that_was_told(server: Serve) -> None:
    async def before(server: Serve) -> tuple[str, str, str, dict[str, Any]]:
        async with people(server, "alice", "bob") as (alice, bob):
            room_id = await alice.create(topic="old", invite=[bob.user_id])
            await bob.joins(room_id)
            elsewhere = Elsewhere(server, room_id)
            one = elsewhere.event(alice.user_id, "m.room.topic", {"topic": "one"}, "", 1)
            two = elsewhere.event(alice.user_id, "m.room.topic", {"topic": "two"}, "", 2)
            token = (await newest(bob, room_id))["next_batch"]
            elsewhere.tell(one, two)
            await until_shown(bob, room_id, two, token)
            await alice.says(room_id, "unread", txn="t")
            whole = await newest(bob, room_id)
            assert whole["unread_notifications"]["notification_count"] == 1
            return room_id, str(bob.client.access_token), token, whole

    async def after(server: Serve, room_id: str, access_token: str, token: str, whole: dict[str, Any]) -> None:
        bob = Person(f"http://127.0.0.1:{server.port}", "bob")
        try:
            bob.client.access_token = access_token
            # The client's session is made by its first request.
            await bob.client.whoami()
            assert without_ages(await newest(bob, room_id)) == without_ages(whole)
            since = await newest(bob, room_id, since=token)
            assert [e["type"] for e in since["timeline"]["events"]] == ["m.room.topic"] * 2 + ["m.room.message"]
            nothing = await newest(bob, room_id, since=whole["next_batch"])
            assert "timeline" not in nothing
        finally:
            await bob.client.close()

    told = asyncio.run(before(server))
    server.kill_all()
    server.start()
    asyncio.run(after(server, *told))


def without_ages(value: Any) -> Any:
    """JSON without what depends on when it is read."""
    if isinstance(value, dict):
        return {key: without_ages(inner) for key, inner in value.items() if key not in ("age", "next_batch")}
    return [without_ages(inner) for inner in value] if isinstance(value, list) else value
