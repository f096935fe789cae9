"""What a commit tells: names split over several payloads, and the head of each room."""

from __future__ import annotations

from annals.eventlog.embedded import EmbeddedLog
from annals.eventlog.partition import partition_of
from annals.projectors.moved import Moved
from annals.projectors.notices import CHANNEL, payloads, understood
from annals.rooms.heads import Intent
from annals.schemas.facts.rooms import RoomFact
from tests.support.hearing import hearing
from tests.support.patience import PATIENCE_S
from tests.support.projectors import append, connector, running
from tests.support.room_traffic import numbered_room
from tests.support.rooms import Driver, received, user


def test_positions_come_when_every_name_has_been_heard() -> None:
    sent = payloads("g1", {("rooms", 3): 124}, Moved({f"!{n}:" + "x" * 200 for n in range(80)}, {"@a:x"}))
    notices = [understood(payload) for payload in sent]
    assert len(notices) > 1
    assert [notice.positions for notice in notices] == [{}] * (len(notices) - 1) + [{("rooms", 3): 124}]
    assert sum(len(notice.rooms) for notice in notices) == 80


def _heads_told(log: EmbeddedLog, url: str, facts: list[RoomFact]) -> dict[str, str]:
    """What was last told of each head, once the tables have these facts; how many batches that takes is open."""
    with hearing(url, CHANNEL) as heard:
        with running(log, connector(url)) as loop:
            append(log, facts)
            loop.catch_up()
        heads: dict[str, str] = {}
        partition = partition_of(facts[0].room_id, log.partitions("rooms"))
        end = log.end("rooms", partition)
        while True:
            notice = understood(heard.get(timeout=PATIENCE_S))
            for room_id in notice.rooms:
                heads.pop(room_id, None)
            heads.update(notice.heads)
            if notice.positions.get(("rooms", partition)) == end:
                return heads


def _room() -> Driver:
    driver = numbered_room("12", 1)
    driver.send(user("alice"), "m.room.message", {"body": "hello"})
    return driver


def test_the_head_of_a_room_is_told(log: EmbeddedLog, tables_url: str) -> None:
    driver = _room()
    told = _heads_told(log, tables_url, list(driver.tables.facts.values()))
    assert told == {driver.room_id: driver.view.known_header().extremities[0]}


def test_a_room_with_two_heads_has_none_to_tell(log: EmbeddedLog, tables_url: str) -> None:
    driver = _room()
    rules = driver.view.known_header().rules
    assert rules
    fork = [driver.build(Intent(user("alice"), "m.room.message", {"body": str(n)}), rules) for n in range(2)]
    driver.feed(*map(received, fork))
    assert len(driver.view.known_header().extremities) == 2
    assert _heads_told(log, tables_url, list(driver.tables.facts.values())) == {}
