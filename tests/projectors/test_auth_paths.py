"""What a resolution reads of a long history of power levels: of the tables, by ranges of the chain cover."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from annals.database.write_connection import WriteConnection
from annals.eventlog.embedded import EmbeddedLog
from annals.matrix.events import Event
from annals.projectors.rooms.load import load
from annals.rooms.auth_chains import Place
from annals.rooms.auth_paths import highest, lowest
from annals.rooms.heads import Intent
from annals.rooms.machine import decide
from annals.rooms.needs import Needs
from annals.rooms.view import learn, unknown_room
from annals.schemas.facts.rooms import RoomFact
from tests.support.projectors import append, connector, running
from tests.support.room_traffic import numbered_room, traffic
from tests.support.rooms import received, user

ALICE, BOB = user("alice"), user("bob")
LEVELS, MEMBER = "m.room.power_levels", "m.room.member"


@pytest.fixture
def connection(tables_url: str) -> Iterator[WriteConnection]:
    tables = WriteConnection(tables_url, "g1")
    yield tables
    tables.close()


def _logged(log: EmbeddedLog, url: str, facts: list[RoomFact]) -> None:
    with running(log, connector(url)) as loop:
        append(log, facts)
        loop.catch_up()
        assert not loop.stopped


def test_the_tables_answer_as_the_definition(log: EmbeddedLog, tables_url: str, connection: WriteConnection) -> None:
    rng = random.Random(7)
    stories, facts = traffic(rng, rooms=3, length=30)
    _logged(log, tables_url, facts)
    needs, expected = Needs(), {}
    tables_of = {story.driver.room_id: story.driver.tables for story in stories}
    for story in stories:
        tables, room_id = story.driver.tables, story.driver.room_id
        placed = sorted(tables.places.values(), key=lambda p: p.event_id)
        between = set()
        for count in (1, 2, 4) * 20:
            places = [p.place for p in rng.sample(placed, count)]
            between.add((room_id, highest(places), lowest(places)))
        chains = {(room_id, p.place.chain_id) for p in placed if p.key == (LEVELS, "")}
        below = frozenset((room_id, tops) for _, tops, _ in between)
        ranges = frozenset((room_id, ((p.place.chain_id, 2, 3), (placed[0].place.chain_id, 1, 1))) for p in placed)
        of_room = Needs(between=frozenset(between), mainlines=frozenset(chains), below=below, ranges=ranges)
        needs, expected[room_id] = needs | of_room, tables.load(of_room)
    found = load(connection, needs)
    for room_id, answers in expected.items():
        assert found[room_id].between == answers.between
        assert found[room_id].mainlines == answers.mainlines
        assert found[room_id].ranges == answers.ranges
        assert found[room_id].below.keys() == answers.below.keys()
        for need, chains_below in answers.below.items():
            loaded = found[room_id].below[need]
            assert (sorted(loaded.links), loaded.keys) == (sorted(chains_below.links), chains_below.keys)
        assert found[room_id].auth_places.items() <= answers.auth_places.items()
        assert {name for _, name in found[room_id].events} <= {name for _, name in answers.events}
        at = {p.place: p.event_id for p in tables_of[room_id].places.values()}
        for (_, tops, bottoms), inside in found[room_id].between.items():
            ends = {at[Place(*place)] for place in (*tops, *bottoms)}
            assert {(room_id, name) for name in inside - ends} <= found[room_id].events.keys(), "they come along"


@dataclass(frozen=True)
class Cost:
    """What deciding one fact of a cold room took."""

    rounds: int
    queries: int
    events: int


class History:
    """A room of alice and bob whose power levels alice changed so often."""

    def __init__(self, changes: int, version: str = "12") -> None:
        self.driver = numbered_room(version, 1)
        self.driver.send(BOB, MEMBER, {"membership": "join"}, BOB)
        self.before = self.build("m.room.topic", {"topic": "before"}, "")
        levels = {} if version == "12" else {"users": {ALICE: 100}}
        for number in range(changes):
            self.driver.send(ALICE, LEVELS, levels | {"ban": number % 50}, "")

    def build(self, event_type: str, content: dict[str, object], state_key: str, sender: str = ALICE) -> Event:
        """On the head, and nobody knows it."""
        rules = self.driver.view.known_header().rules
        assert rules
        return self.driver.build(Intent(sender, event_type, content, state_key), rules, now_ms=7)

    def cost(self, log: EmbeddedLog, url: str, one: Event, other: Event) -> Cost:
        """Of deciding `other`, where `one` stands beside it."""
        self.driver.feed(received(one))
        _logged(log, url, list(self.driver.tables.facts.values()))
        fact, rounds = received(other), 0
        counting, view = _Counting(WriteConnection(url, "g1")), unknown_room(self.driver.room_id)
        events: set[str] = set()
        while isinstance(outcome := decide(view, fact, self.driver.offset, 1), Needs):
            found = load(counting, outcome)[self.driver.room_id]
            events |= {name for _, name in found.events}
            view, rounds = learn(view, found), rounds + 1
        counting.connection.close()
        assert outcome.decisions == self.driver.feed(fact), "as by the tables that walk"
        return Cost(rounds, counting.queries, len(events))


@dataclass
class _Counting:
    connection: WriteConnection
    queries: int = 0

    def rows(self, sql: str, params: object = ()) -> list[tuple[object, ...]]:
        self.queries += 1
        return self.connection.rows(sql, params)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["11", "12"])
def test_a_conflict_of_today_reads_nothing_of_a_long_history(log: EmbeddedLog, tables_url: str, version: str) -> None:
    """Bob's profile on one side: his first one cites the first power levels, his new one the last."""
    history = History(120, version)
    one = history.build(MEMBER, {"membership": "join", "displayname": "b"}, BOB, BOB)
    cost = history.cost(log, tables_url, one, history.build("m.room.topic", {"topic": "x"}, ""))
    assert cost.rounds <= 6
    assert cost.queries <= 22
    assert cost.events <= 25


def test_what_stands_between_is_read_in_a_few_rounds(log: EmbeddedLog, tables_url: str) -> None:
    """Alice's profile on one side: all power levels stand between her new one and the one that they cite."""
    history = History(120)
    one = history.build(MEMBER, {"membership": "join", "displayname": "a"}, ALICE)
    cost = history.cost(log, tables_url, one, history.build("m.room.topic", {"topic": "x"}, ""))
    assert cost.rounds <= 6
    assert cost.queries <= 22
    assert 120 <= cost.events <= 140


@pytest.mark.parametrize("version", ["11", "12"])
def test_a_side_from_long_ago_is_read_in_a_few_rounds(log: EmbeddedLog, tables_url: str, version: str) -> None:
    """One side stands on what was there before all changes: these are the auth difference."""
    history = History(120, version)
    one = history.build(MEMBER, {"membership": "join", "displayname": "b"}, BOB, BOB)
    cost = history.cost(log, tables_url, one, history.before)
    assert cost.rounds <= 12
    assert cost.queries <= 40
    assert 120 <= cost.events <= 140
