"""When a process answers: once the tables have what was on the log at its start; ready while they follow closely."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from annals.eventlog.api import TopicPartition
from annals.eventlog.errors import LogUnavailable
from annals.projectors.groups import GROUPS
from annals.server.house import LAG_MAX, House


class Log:
    """Topics of one partition each."""

    def __init__(self) -> None:
        self.end = 5

    def ends(self, topic: str) -> list[int]:
        return [self.end]


TOPICS = {group.topic for group in GROUPS.values()}


def house_at(known: int, log: Log) -> House:
    reached = SimpleNamespace(known={(topic, 0): known for topic in TOPICS}, generation="g1")
    given: dict[str, Any] = {
        **{part.name: None for part in fields(House) if part.default is MISSING},
        "log": log,
        "reached": reached,
        "starting_ends": {(topic, 0): 5 for topic in TOPICS},
    }
    return House(**given)


def readiness(house: House) -> str | None:
    return asyncio.run(house.readiness())


def test_nothing_is_answered_before_the_tables_have_what_was_there() -> None:
    house = house_at(4, Log())
    assert not house.serving()
    assert readiness(house) == "the tables have not reached the log yet"


def test_who_waits_to_serve_does_not_ask_the_log_again() -> None:
    class Away(Log):
        def ends(self, topic: str) -> list[int]:
            raise LogUnavailable("the brokers do not answer")

    house = house_at(4, Away())
    tables: Any = house.reached
    waits: list[Mapping[TopicPartition, int]] = []

    async def reached(vector: Mapping[TopicPartition, int], timeout_s: float) -> bool:
        waits.append(vector)
        if len(waits) == 2:
            tables.known = vector
        return len(waits) == 2

    tables.reached = reached
    with capture_logs() as said:
        asyncio.run(house.until_serving())
    assert waits == [house.starting_ends] * 2
    assert [(line["event"], line["records"]) for line in said] == [("waits_for_tables", len(TOPICS))] * 2


def test_once_there_it_serves_and_readiness_follows_the_lag() -> None:
    log = Log()
    house = house_at(5, log)
    assert house.serving()
    assert readiness(house) is None
    log.end = 5 + LAG_MAX // len(TOPICS)
    assert readiness(house) is None
    log.end = 6 + LAG_MAX
    assert "behind the log" in (readiness(house) or "")
    assert house.serving(), "who has caught up once answers, however long the queue"
