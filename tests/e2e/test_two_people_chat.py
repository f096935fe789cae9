"""Two people with a real client, from the first account to the last word."""

from __future__ import annotations

import asyncio
import time

import nio  # type: ignore[import-untyped]
import pytest

from tests.support.patience import PATIENCE_S
from tests.support.people import Person, bodies, ok, people
from tests.support.servers import Serve

VERSIONS = [*(pytest.param(version, marks=pytest.mark.one_log) for version in ("10", "11")), "12"]
#: As long as a server lets one wait.
LONG_MS = 90_000
TYPING_MS = 120_000


async def invite_in(alice: Person, bob: Person, version: str = "12") -> str:
    """A room of alice's that bob was invited to and came into; both are up to date."""
    room_id = await alice.create(room_version=version)
    ok(await alice.client.room_invite(room_id, bob.user_id), nio.RoomInviteResponse)
    await bob.joins(room_id)
    await alice.sync()
    await bob.sync()
    return room_id


@pytest.mark.parametrize("version", VERSIONS)
def test_from_invite_to_last_word(server: Serve, version: str) -> None:
    async def story() -> None:
        async with people(server, "alice", "bob") as (alice, bob):
            await bob.sync()
            room_id = await alice.create(room_version=version, name="Tea", topic="biscuits")
            ok(await alice.client.room_invite(room_id, bob.user_id), nio.RoomInviteResponse)
            invited = await bob.sync()
            events = invited.rooms.invite[room_id].invite_state
            assert any(isinstance(e, nio.InviteNameEvent) and e.name == "Tea" for e in events)
            await bob.joins(room_id)
            joined = await bob.sync()
            assert room_id in joined.rooms.join
            assert bob.client.rooms[room_id].name == "Tea"
            assert bob.client.rooms[room_id].room_version == version

            before = str(alice.client.next_batch or (await alice.sync()).next_batch)
            await alice.sync()
            await alice.says(room_id, "hello")
            assert await bob.hears(room_id) == ["hello"]
            said = await bob.says(room_id, "hello yourself")
            assert await alice.hears(room_id) == ["hello", "hello yourself"]
            ok(await bob.client.room_redact(room_id, said, "typo"), nio.RoomRedactResponse)
            redacted = (await alice.sync()).rooms.join[room_id].timeline.events
            assert isinstance(redacted[0], nio.RedactionEvent)
            assert redacted[0].redacts == said

            # From an old token the redacted message is shown as such.
            old = await alice.sync(before)
            shown = {event.event_id: event for event in old.rooms.join[room_id].timeline.events}
            assert isinstance(shown[said], nio.RedactedEvent)
            assert bodies(old, room_id) == ["hello"]

    asyncio.run(story())


@pytest.mark.one_log
def test_paging_back_to_the_beginning(server: Serve) -> None:
    async def story() -> None:
        async with people(server, "alice", "bob") as (alice, bob):
            room_id = await invite_in(alice, bob)
            said = [await alice.says(room_id, f"message {number}") for number in range(25)]
            answer = await bob.sync(sync_filter={"room": {"timeline": {"limit": 5}}})
            timeline = answer.rooms.join[room_id].timeline
            assert timeline.limited
            found = [event.event_id for event in timeline.events]
            start: str | None = timeline.prev_batch
            while start:
                page = await bob.client.room_messages(room_id, start=start, limit=7)
                page = ok(page, nio.RoomMessagesResponse)
                found = [event.event_id for event in reversed(page.chunk)] + found
                start = page.end
            assert len(found) == len(set(found))
            assert found[-25:] == said
            first = ok(await bob.client.room_get_event(room_id, found[0]), nio.RoomGetEventResponse)
            assert isinstance(first.event, nio.RoomCreateEvent)

    asyncio.run(story())


def test_a_long_poll_wakes(server: Serve) -> None:
    async def story() -> None:
        async with people(server, "alice", "bob", "carol") as (alice, bob, carol):
            room_id = await invite_in(alice, bob)
            await carol.sync()
            waiting = asyncio.create_task(bob.sync(timeout_ms=LONG_MS))
            invited = asyncio.create_task(carol.sync(timeout_ms=LONG_MS))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            await alice.says(room_id, "wake up")
            assert bodies(await waiting, room_id) == ["wake up"], "the time of the poll is not over: it was woken"
            # Who is in none of the rooms wakes by an invite.
            assert not invited.done()
            ok(await alice.client.room_invite(room_id, carol.user_id), nio.RoomInviteResponse)
            assert room_id in (await invited).rooms.invite

    asyncio.run(story())


@pytest.mark.one_log
def test_nothing_new_answers_when_the_time_is_over(server: Serve) -> None:
    async def story() -> None:
        async with people(server, "alice", "bob") as (alice, bob):
            await invite_in(alice, bob)
            began_s = time.monotonic()
            status, answer = await bob.call("GET", "/sync", since=bob.client.next_batch, timeout=300)
            assert (status, answer.get("rooms", {}).get("join")) == (200, None)
            assert time.monotonic() - began_s > 0.25

    asyncio.run(story())


def test_typing_and_receipts(server: Serve) -> None:
    async def story() -> None:
        async with people(server, "alice", "bob") as (alice, bob):
            room_id = await invite_in(alice, bob)
            waiting = asyncio.create_task(bob.sync(timeout_ms=LONG_MS))
            await asyncio.sleep(0.1)
            ok(await alice.client.room_typing(room_id, True, timeout=TYPING_MS), nio.RoomTypingResponse)
            (typing,) = (await waiting).rooms.join[room_id].ephemeral
            assert isinstance(typing, nio.TypingNoticeEvent)
            assert typing.users == [alice.user_id]
            ok(await alice.client.room_typing(room_id, False), nio.RoomTypingResponse)
            (typing,) = (await bob.sync(timeout_ms=LONG_MS)).rooms.join[room_id].ephemeral
            assert isinstance(typing, nio.TypingNoticeEvent)
            assert typing.users == []

            said = await alice.says(room_id, "read me")
            unread = (await bob.sync()).rooms.join[room_id].unread_notifications
            assert unread is not None
            assert unread.notification_count == 1
            ok(await bob.client.room_read_markers(room_id, said, said), nio.RoomReadMarkersResponse)
            own = (await bob.sync()).rooms.join[room_id]
            assert own.unread_notifications is not None
            assert own.unread_notifications.notification_count == 0
            await alice.sync()
            told = await alice.sync(timeout_ms=0, since=None, full_state=True)
            assert told.next_batch
            status, answer = await alice.call("GET", "/sync")
            assert status == 200
            receipts = [e for e in answer["rooms"]["join"][room_id]["ephemeral"]["events"] if e["type"] == "m.receipt"]
            assert list(receipts[0]["content"][said]["m.read"]) == [bob.user_id]

    asyncio.run(story())


@pytest.mark.one_log
def test_names(server: Serve) -> None:
    async def story() -> None:
        async with people(server, "alice", "bob") as (alice, bob):
            room_id = await invite_in(alice, bob)
            ok(await alice.client.set_displayname("Alice L."), nio.ProfileSetDisplayNameResponse)
            assert ok(await bob.client.get_displayname(alice.user_id), nio.ProfileGetDisplayNameResponse).displayname
            # A story before this one kills the server: who writes the name into rooms may wait for the old one's lease.
            async with asyncio.timeout(PATIENCE_S):
                while bob.client.rooms[room_id].user_name(alice.user_id) != "Alice L.":
                    await bob.sync(timeout_ms=LONG_MS)

    asyncio.run(story())


@pytest.mark.one_log
def test_kick_ban_leave_forget(server: Serve) -> None:
    async def story() -> None:
        async with people(server, "alice", "bob") as (alice, bob):
            room_id = await invite_in(alice, bob)
            ok(await alice.client.room_kick(room_id, bob.user_id, "out"), nio.RoomKickResponse)
            assert room_id in (await bob.sync()).rooms.leave
            sent = await bob.client.room_send(room_id, "m.room.message", {"msgtype": "m.text", "body": "still here"})
            assert isinstance(sent, nio.RoomSendError)
            assert sent.status_code == "M_FORBIDDEN"
            ok(await alice.client.room_ban(room_id, bob.user_id), nio.RoomBanResponse)
            assert isinstance(await bob.client.join(room_id), nio.JoinError)
            ok(await alice.client.room_unban(room_id, bob.user_id), nio.RoomUnbanResponse)
            ok(await alice.client.room_invite(room_id, bob.user_id), nio.RoomInviteResponse)
            await bob.joins(room_id)
            assert room_id in (await bob.sync()).rooms.join
            assert isinstance(await bob.client.room_forget(room_id), nio.RoomForgetError)
            ok(await bob.client.room_leave(room_id), nio.RoomLeaveResponse)
            ok(await bob.client.room_forget(room_id), nio.RoomForgetResponse)
            assert room_id in (await bob.sync()).rooms.leave
            status, _ = await bob.call("GET", f"/rooms/{room_id}/messages", dir="b")
            assert status == 403

    asyncio.run(story())


@pytest.mark.one_log
def test_aliases(server: Serve) -> None:
    async def story() -> None:
        async with people(server, "alice", "bob") as (alice, bob):
            local = f"tea-{alice.name}"
            room_id = await alice.create(
                alias=local, visibility=nio.RoomVisibility.public, preset=nio.RoomPreset.public_chat
            )
            alias = f"#{local}:{alice.user_id.partition(':')[2]}"
            found = ok(await bob.client.room_resolve_alias(alias), nio.RoomResolveAliasResponse)
            assert found.room_id == room_id
            await bob.joins(alias)
            assert sorted(
                m.user_id for m in ok(await bob.client.joined_members(room_id), nio.JoinedMembersResponse).members
            ) == sorted([alice.user_id, bob.user_id])
            taken = await bob.client.room_create(alias=local)
            assert isinstance(taken, nio.RoomCreateError)
            assert taken.status_code == "M_ROOM_IN_USE"

    asyncio.run(story())


def test_a_transaction_id_makes_one_event(server: Serve) -> None:
    async def story() -> None:
        async with people(server, "alice", "bob") as (alice, bob):
            room_id = await invite_in(alice, bob)
            sent = [await alice.says(room_id, "once", txn="t1") for _ in range(3)]
            together = await asyncio.gather(*(alice.says(room_id, "again", txn="t2") for _ in range(5)))
            assert len(set(sent)) == len(set(together)) == 1
            assert await bob.hears(room_id) == ["once", "again"]
            # Another person's, and another device's, is another.
            assert await bob.says(room_id, "mine", txn="t1") not in sent
            answer = await alice.call("GET", "/sync")
            events = answer[1]["rooms"]["join"][room_id]["timeline"]["events"]
            marked = {
                e["content"]["body"]: e["unsigned"].get("transaction_id") for e in events if "body" in e["content"]
            }
            assert marked == {"once": "t1", "again": "t2", "mine": None}

    asyncio.run(story())


@pytest.mark.one_log
def test_state_and_members(server: Serve) -> None:
    async def story() -> None:
        async with people(server, "alice", "bob") as (alice, bob):
            room_id = await invite_in(alice, bob)
            ok(await alice.client.room_put_state(room_id, "m.room.topic", {"topic": "one"}), nio.RoomPutStateResponse)
            ok(await alice.client.room_put_state(room_id, "m.room.topic", {"topic": "two"}), nio.RoomPutStateResponse)
            got = ok(await bob.client.room_get_state_event(room_id, "m.room.topic"), nio.RoomGetStateEventResponse)
            assert got.content == {"topic": "two"}
            refused = await bob.client.room_put_state(room_id, "m.room.topic", {"topic": "mine"})
            assert isinstance(refused, nio.RoomPutStateError)
            everything = ok(await bob.client.room_get_state(room_id), nio.RoomGetStateResponse)
            assert {e["type"] for e in everything.events} >= {"m.room.create", "m.room.topic", "m.room.member"}
            events = (await bob.sync()).rooms.join[room_id].timeline.events
            topics = [e for e in events if isinstance(e, nio.RoomTopicEvent)]
            assert [e.topic for e in topics] == ["one", "two"]
            assert topics[1].source["unsigned"]["prev_content"] == {"topic": "one"}

    asyncio.run(story())
