"""How often the builder asks the tables: a read is a round trip that everybody in the group waits for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

from annals.commands.appending import Appender
from annals.commands.rooms.builder import RoomBuilder, Workshop
from annals.commands.rooms.outcomes import Outcome, Outcomes
from annals.commands.rooms.plans import Sent
from annals.commands.rooms.sending import send
from annals.rooms.heads import Intent
from annals.rooms.needs import Loaded, Needs
from tests.support.room_traffic import numbered_room
from tests.support.rooms import SIGNER, Driver, user


class Tables:
    """The tables of one room; counts what is asked of them."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.asked: list[Needs] = []

    async def load(self, needs: Needs) -> Loaded:
        self.asked.append(needs)
        return self.driver.tables.load(needs)

    async def outcomes(self, room_id: str, event_ids: list[str]) -> Outcomes:
        rows = self.driver.tables.events
        found = {event_id: Outcome(rows[event_id]["verdict"].verdict) for event_id in event_ids}
        return Outcomes(found, frozenset(self.driver.tables.extremities), halted=False)


class DrivenAppender(Appender):
    """What is appended is decided at once."""

    driver: Driver

    async def submit(self, facts: Any) -> Any:
        self.driver.feed(*facts)

    async def settle(self, submitted: Any, timeout_s: float = 0.0) -> None:
        pass


def _builder(driver: Driver) -> tuple[RoomBuilder, Tables]:
    tables, clock = Tables(driver), itertools.count(1)
    appender = DrivenAppender.__new__(DrivenAppender)
    appender.clock, appender.writer, appender.version = (lambda: next(clock)), "test", "1"
    appender.driver = driver
    return RoomBuilder(driver.room_id, Workshop(appender, tables, SIGNER, lambda: next(clock))), tables


async def _sent(builder: RoomBuilder, keys: list[str]) -> list[Sent]:
    def intent(key: str) -> Intent:
        content: Mapping[str, Any] = {"body": key}
        return Intent(user("alice"), "m.room.message", dict(content), idempotency_key=key)

    return await asyncio.gather(*[builder.carry_out(send(intent(key))) for key in keys])


def test_a_group_on_a_known_room_asks_once() -> None:
    driver = numbered_room("12", 1)
    builder, tables = _builder(driver)

    async def scenario() -> list[Sent]:
        await _sent(builder, ["first"])
        tables.asked.clear()
        return await _sent(builder, [f"txn{number}" for number in range(20)])

    answers = asyncio.run(scenario())
    assert len({sent.event_ids for sent in answers}) == 20
    assert len(tables.asked) == 1
    assert {key for _, key in tables.asked[0].keys} == {f"txn{number}" for number in range(20)}


def test_a_clock_that_goes_on_does_not_make_it_ask_for_ever() -> None:
    # Each try builds another event, with another id.
    driver = numbered_room("12", 1)
    builder, tables = _builder(driver)
    answers = asyncio.run(_sent(builder, ["first", "second"]))
    assert [len(sent.event_ids) for sent in answers] == [1, 1]
    asked_events = {event_id for needs in tables.asked for _, event_id in needs.events}
    assert not asked_events & {event_id for sent in answers for event_id in sent.event_ids}


def test_a_retry_is_the_first_event() -> None:
    driver = numbered_room("12", 1)
    builder, _ = _builder(driver)
    first = asyncio.run(_sent(builder, ["same"]))
    facts = len(driver.tables.facts)
    again = asyncio.run(_sent(_builder(driver)[0], ["same"]))
    assert again == first
    assert len(driver.tables.facts) == facts
