"""How often the builder asks the tables: a read is a round trip that everybody in the group waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from annals.commands.errors import Refused
from annals.commands.rooms.builder import RoomBuilder
from annals.commands.rooms.membership import Change, join
from annals.commands.rooms.plans import Sent
from annals.commands.rooms.sending import send
from annals.rooms.heads import Intent
from tests.support.driven_builder import builder_of
from tests.support.room_traffic import numbered_room
from tests.support.rooms import user


async def _sent(builder: RoomBuilder, keys: list[str], sender: str = "alice") -> list[Sent]:
    def intent(key: str) -> Intent:
        content: Mapping[str, Any] = {"body": key}
        return Intent(user(sender), "m.room.message", dict(content), idempotency_key=key)

    return await asyncio.gather(*[builder.carry_out(send(intent(key))) for key in keys])


def test_a_known_room_costs_no_read() -> None:
    driver = numbered_room("12", 1)
    builder, tables = builder_of(driver)

    async def scenario() -> list[Sent]:
        await _sent(builder, ["first"])
        tables.asked.clear()
        return await _sent(builder, [f"txn{number}" for number in range(20)])

    answers = asyncio.run(scenario())
    sent = [sent.event_ids[0] for sent in answers]
    assert [driver.tables.events[event_id]["key"] for event_id in sent] == [f"txn{number}" for number in range(20)]
    assert tables.asked == []
    assert tables.outcomes_asked == 0


def test_a_clock_that_goes_on_does_not_make_it_ask_for_ever() -> None:
    # Each try builds another event, with another id.
    driver = numbered_room("12", 1)
    builder, tables = builder_of(driver)
    answers = asyncio.run(_sent(builder, ["first", "second"]))
    assert [len(sent.event_ids) for sent in answers] == [1, 1]
    asked_events = {event_id for needs in tables.asked for _, event_id in needs.events}
    assert not asked_events & {event_id for sent in answers for event_id in sent.event_ids}


def test_a_retry_on_another_builder_is_the_first_event() -> None:
    driver = numbered_room("12", 1)
    first = asyncio.run(_sent(builder_of(driver)[0], ["same"]))
    events = len(driver.tables.events)
    assert asyncio.run(_sent(builder_of(driver)[0], ["same"])) == first
    assert len(driver.tables.events) == events


def test_a_retry_among_others_takes_nothing_from_them() -> None:
    driver = numbered_room("12", 1)
    (first,) = asyncio.run(_sent(builder_of(driver)[0], ["same"]))
    events = len(driver.tables.events)
    other, again, third = asyncio.run(_sent(builder_of(driver)[0], ["other", "same", "third"]))
    assert again == first
    accepted = [i for i, row in driver.tables.events.items() if row["verdict"].verdict == "accepted"]
    assert {other.event_ids[0], third.event_ids[0]} < set(accepted)
    assert len(accepted) == events + 2


def test_a_retry_of_somebody_who_was_banned_since_is_the_first_event() -> None:
    driver = numbered_room("12", 1)
    driver.send(user("bob"), "m.room.member", {"membership": "join"}, user("bob"))
    first = asyncio.run(_sent(builder_of(driver)[0], ["same"], "bob"))
    driver.send(user("alice"), "m.room.member", {"membership": "ban"}, user("bob"))
    builder, _ = builder_of(driver)
    assert asyncio.run(_sent(builder, ["same"], "bob")) == first
    with pytest.raises(Refused):
        asyncio.run(_sent(builder, ["new"], "bob"))


def test_what_others_saw_before_the_builder_was_told_counts() -> None:
    # A ban and its end were in the tables, and read there by somebody else, when the notices had not come yet.
    driver = numbered_room("12", 1)
    builder, tables = builder_of(driver)
    coming = join(Change(user("bob"), user("bob"), "join"), frozenset())

    async def scenario() -> None:
        await _sent(builder, ["first"])
        await builder.carry_out(coming)
        for membership in ("ban", "leave"):
            driver.send(user("alice"), "m.room.member", {"membership": membership}, user("bob"))
        # Not "nothing to do: he is in the room": he was.
        assert len((await builder.carry_out(coming)).event_ids) == 1
        driver.send(user("alice"), "m.room.member", {"membership": "ban"}, user("bob"))
        with pytest.raises(Refused):
            await builder.carry_out(coming)
        await _sent(builder, ["second"])
        driver.send(user("alice"), "m.room.member", {"membership": "leave"}, user("bob"))
        # Not "banned": he was.
        assert len((await builder.carry_out(coming)).event_ids) == 1
        tables.asked.clear()
        with pytest.raises(Refused):
            await _sent(builder, ["third"], "mallory")

    asyncio.run(scenario())
    # What is refused is looked at again once, not for ever.
    assert len(tables.asked) < 10
