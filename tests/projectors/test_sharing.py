"""Several loops share the partitions: what moves is folded once, and nobody writes what is not his."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from annals.database.errors import ConnectionLost, DatabaseError
from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Append, Log, TopicPartition
from annals.eventlog.embedded import EmbeddedLog, open_embedded
from annals.eventlog.reading import records_between
from annals.projectors.errors import FenceLost, GivenUp, ProjectorError, TakenMeanwhile
from annals.projectors.groups import GROUPS
from annals.projectors.loop import Loop, Settings
from annals.projectors.rooms import decided
from annals.projectors.taking import Taking
from annals.schemas.facts.operations import UndecodableSkipped
from annals.schemas.topics import TOPICS, decisions_topic
from tests.support.decisions import decisions_that_count
from tests.support.postgres import PostgresServer
from tests.support.projectors import (
    SERVER_NAME,
    append,
    append_of,
    connector,
    dump,
    empty,
    envelope,
    running,
    simple_facts,
)
from tests.support.room_traffic import traffic
from tests.support.shared_log import Coordinator, MemberLog, all_partitions
from tests.support.soak import only_in_soak
from tests.support.spare_tables import spare_tables

TOPICS_READ = [group.topic for group in GROUPS.values()]
ROOMS = [("rooms", number) for number in range(8)]


def member(log: EmbeddedLog, coordinator: Coordinator, url: str, name: str, **settings: Any) -> Loop:
    """A loop that has not joined yet."""
    options = {"release_wait_s": 0.0, "records_max": 40, **settings}
    return Loop(
        cast(Log, MemberLog(log, coordinator, name)),
        connector(url),
        Settings("g1", SERVER_NAME, name, **options),
    )


@contextmanager
def members(log: EmbeddedLog, coordinator: Coordinator, url: str, *names: str, **settings: Any) -> Iterator[list[Loop]]:
    """Loops that have joined and taken what is theirs."""
    loops = [member(log, coordinator, url, name, **settings) for name in names]
    try:
        for loop in loops:
            loop.take()
        yield loops
    finally:
        for loop in loops:
            loop.close()


def sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Rows of a query on the generation, or none of another statement."""
    connection = WriteConnection(url, "g1")
    try:
        if statement.startswith("SELECT"):
            return connection.rows(statement)
        connection.execute(statement)
        return []
    finally:
        connection.close()


def mixed(rng: random.Random, rooms: int = 3, length: int = 8, simple: int = 30) -> list[Any]:
    """Facts of rooms, and others among them; those of rooms in their order."""
    facts: list[Any] = list(traffic(rng, rooms=rooms, length=length)[1])
    for fact in simple_facts(rng, simple):
        facts.insert(rng.randrange(len(facts) + 1), fact)
    return facts


@contextmanager
def alone(postgres: PostgresServer, directory: Path, facts: list[Any]) -> Iterator[Any]:
    """What one loop makes of these facts on a log of their own: its tables, and its decisions."""
    with spare_tables(postgres).tables() as url, closing(open_embedded(directory)) as log:
        log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
        append(log, facts)
        with running(log, connector(url)) as loop:
            loop.catch_up()
        yield dump(url), decisions_that_count(log)


def test_two_share(log: EmbeddedLog, tables_url: str, postgres: PostgresServer, tmp_path: Path) -> None:
    facts = mixed(random.Random(1))
    everything = all_partitions(log, TOPICS_READ)
    coordinator = Coordinator()
    coordinator.assign("a", everything[::2])
    coordinator.assign("b", everything[1::2])
    with members(log, coordinator, tables_url, "a", "b") as (a, b):
        half = len(facts) // 2
        append(log, facts[:half])
        a.catch_up()
        b.catch_up()
        append(log, facts[half:])
        b.catch_up()
        a.catch_up()
        assert {key[1:] for key in a.positions} == set(everything[::2])
        assert not a.positions.keys() & b.positions.keys()
        tables = dump(tables_url)
    with alone(postgres, tmp_path / "alone", facts) as (expected, decided):
        assert tables["events"]
        assert tables == expected
        assert decisions_that_count(log) == decided


def test_an_orderly_hand_over_disturbs_nobody(log: EmbeddedLog, tables_url: str) -> None:
    """There and back, under traffic: the connections that were opened first are those that write to the end."""
    rng = random.Random(2)
    facts = mixed(rng)
    everything = set(all_partitions(log, TOPICS_READ))
    coordinator = Coordinator()
    coordinator.assign("a", frozenset(everything))
    with members(log, coordinator, tables_url, "a", "b", release_wait_s=1_000.0) as (a, b):
        moves: list[set[TopicPartition]] = [set(ROOMS[:4]), set(ROOMS), set(everything), set(ROOMS[2:]), set()]
        for number, of_b in enumerate(moves):
            append(log, facts[number::6])
            a.step()
            b.step()
            coordinator.assign("a", frozenset(everything - of_b))
            coordinator.assign("b", frozenset(of_b))
            # Who gives goes first here, as with a coordinator that waits for it.
            for loop in (a, b, a):
                loop.follow()
            assert {key[1:] for key in b.positions} == of_b
            assert {key[1:] for key in a.positions} == everything - of_b
            a.catch_up()
            b.catch_up()
        owners = sql(tables_url, "SELECT DISTINCT owner, pid IS NULL FROM positions")
    assert owners == [("a", False)]
    assert coordinator.joins == {"a": 1, "b": 1}
    ends = {which: log.end(*which) for which in everything}
    assert {key[1:3]: key[3] for key in dump(tables_url)["next_offsets"]} == ends


def test_an_owner_that_lives_is_given_time_to_go(log: EmbeddedLog, tables_url: str) -> None:
    coordinator = Coordinator()
    coordinator.assign("a", ROOMS)
    with members(log, coordinator, tables_url, "a", "b", release_wait_s=1_000.0) as (a, b):
        append(log, mixed(random.Random(3)))
        coordinator.assign("b", ROOMS[:2])
        b.follow()
        assert not b.positions, "a may be in the middle of a batch"
        a.catch_up()
        coordinator.assign("a", ROOMS[2:])
        a.follow()
        assert sql(tables_url, "SELECT partition FROM positions WHERE pid IS NULL AND group_name = 'rooms'") == [
            (0,),
            (1,),
        ]
        b.follow()
        assert {key[1:] for key in b.positions} == set(ROOMS[:2])
        a.catch_up()
        b.catch_up()


def test_an_owner_that_is_gone_is_not_waited_for(log: EmbeddedLog, tables_url: str) -> None:
    coordinator = Coordinator()
    coordinator.assign("a", ROOMS)
    with members(log, coordinator, tables_url, "a"):
        pass
    coordinator.assign("b", ROOMS)
    with members(log, coordinator, tables_url, "b", release_wait_s=1_000.0) as (b,):
        assert len(b.positions) == 8


def test_a_stalled_owner_is_ended_and_joins_anew(log: EmbeddedLog, tables_url: str) -> None:
    """It loses all that it had with its connection, and takes again only what it is given then."""
    facts = mixed(random.Random(4))
    coordinator = Coordinator()
    coordinator.assign("a", ROOMS)
    with members(log, coordinator, tables_url, "a", "b") as (a, b):
        append(log, facts)
        a.step()
        coordinator.assign("b", ROOMS[4:])
        b.follow()
        b.catch_up()
        before, ends = dump(tables_url), log.ends("decisions.g1")
        with pytest.raises(ConnectionLost):
            a.step()
        assert dump(tables_url) == before
        assert log.ends("decisions.g1") == ends
        a.close()
        coordinator.assign("a", ROOMS[:4])
        a.take()
        a.catch_up()
        b.step()
        assert {key[1:] for key in a.positions} == set(ROOMS[:4])
        assert {key[1:] for key in b.positions} == set(ROOMS[4:])


def test_a_zombie_writes_nothing(log: EmbeddedLog, tables_url: str) -> None:
    """Even one whose backend nobody can end: the row is the fence. Neither rows nor decisions."""
    rng = random.Random(5)
    facts = mixed(rng)
    coordinator = Coordinator()
    coordinator.assign("a", ROOMS)
    with members(log, coordinator, tables_url, "a", "b") as (a, b):
        append(log, facts[::2])
        a.step()
        sql(tables_url, "UPDATE positions SET pid = NULL")
        coordinator.assign("b", ROOMS)
        b.follow()
        b.catch_up()
        append(log, facts[1::2])
        before, ends = dump(tables_url), log.ends("decisions.g1")
        with pytest.raises(FenceLost):
            a.catch_up()
        assert dump(tables_url) == before
        assert log.ends("decisions.g1") == ends
        a.close()
        b.catch_up()
        assert len(dump(tables_url)["events"]) > len(before["events"])


@pytest.mark.parametrize("many", [True, False])
def test_what_a_zombie_decides_is_void(log: EmbeddedLog, tables_url: str, many: bool) -> None:
    """Stopped after the fence let it pass, before its decisions were written: they come behind the mark."""
    facts = mixed(random.Random(6), simple=0)[: None if many else 1]
    coordinator = Coordinator()
    coordinator.assign("a", ROOMS)
    with members(log, coordinator, tables_url, "a", "b") as (a, b):
        append(log, facts)
        late: list[Append] = []
        decisions = a._decisions
        # Few are written by who waits for them.
        write = "write" if many else "write_here"
        real = getattr(decisions, write)

        def stalls(appends: Any) -> Any:
            coordinator.assign("b", ROOMS)
            b.follow()
            b.step()
            late.extend(appends)
            return real(appends)

        setattr(decisions, write, stalls)
        with pytest.raises(ConnectionLost):
            a.step()
        assert late
        b.catch_up()
        lived, counted = dump(tables_url), decisions_that_count(log)
        assert len({(d.room_id, d.position) for d in counted}) == len(counted)
    again = log.ends("decisions.g1")
    empty(tables_url)
    with running(log, connector(tables_url), owner="rebuild") as loop:
        loop.catch_up()
    assert dump(tables_url) == {**lived, "next_offsets": dump(tables_url)["next_offsets"]}
    assert [end - 1 for end in log.ends("decisions.g1")] == again, "a mark each, nothing decided anew"


def test_who_looked_long_ago_takes_nothing(log: EmbeddedLog, tables_url: str) -> None:
    coordinator = Coordinator()
    coordinator.assign("a", ROOMS)
    with members(log, coordinator, tables_url, "a", "b") as (a, b):
        stale = b._taking
        assert stale is not None
        keys = [("rooms", *which) for which in ROOMS]
        looked = stale.look(keys)
        # It is not b's turn any more: nobody is ended, nothing is taken.
        assert stale.own(looked, {}) == []
        a.step()
        # It would be, but another took it since it looked.
        coordinator.assign("b", ROOMS)
        coordinator.assign("c", ROOMS)
        with members(log, coordinator, tables_url, "c") as (c,):
            before = sql(tables_url, "SELECT owner, epoch, pid FROM positions ORDER BY topic, partition")
            with pytest.raises(TakenMeanwhile):
                stale.own(looked, {})
            assert sql(tables_url, "SELECT owner, epoch, pid FROM positions ORDER BY topic, partition") == before
            c.step()


def test_a_long_backlog_starves_neither_the_others_nor_our_sign_of_life(
    log: EmbeddedLog, tables_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided before is folded some steps at a time; in between the loop polls, and folds what is live."""
    facts = mixed(random.Random(7), rooms=4, simple=0)
    append(log, facts)
    with running(log, connector(tables_url)) as loop:
        loop.catch_up()
    empty(tables_url)
    monkeypatch.setattr(decided, "STEP_BYTES_MAX", 1)
    coordinator = Coordinator()
    coordinator.assign("a", [("users", number) for number in range(8)])
    with members(log, coordinator, tables_url, "a") as (a,):
        coordinator.assign("a", all_partitions(log, TOPICS_READ))
        a.follow()
        rounds = 0
        for number, fact in enumerate(
            f for f in simple_facts(random.Random(8), 60) if append_of(log, f).topic == "users"
        ):
            append(log, [fact])
            a.follow()
            a.step()
            assert all(log.end(*key[1:]) == at for key, at in a.positions.items() if key[0] == "users"), number
            rounds += sum(at for key, at in a.positions.items() if key[0] == "rooms") < len(facts)
        assert rounds > 5, "the backlog was folded at once: the test tests nothing"
        a.catch_up()
        assert sum(at for key, at in a.positions.items() if key[0] == "rooms") == len(facts)
        assert not sum(log.ends("decisions.g1")) - _marks_and_decisions(log), "nothing was decided anew"


def _marks_and_decisions(log: EmbeddedLog) -> int:
    marks: int = sum(record.key == b"mark" for number in range(8) for record in _all(log, number))
    return marks + len(decisions_that_count(log))


def _all(log: EmbeddedLog, number: int) -> Iterator[Any]:
    return records_between(log, "decisions.g1", number, 0)


@pytest.mark.parametrize("everything_stopped", [False, True])
def test_a_skip_is_obeyed_by_who_does_not_fold_operations(
    log: EmbeddedLog, tables_url: str, everything_stopped: bool
) -> None:
    good = [fact for fact in simple_facts(random.Random(9), 200) if append_of(log, fact).topic == "users"]
    bad = append_of(log, good[0])
    at = (bad.topic, bad.partition)
    coordinator = Coordinator()
    coordinator.assign("a", [("operations", 0)])
    coordinator.assign("b", [at] if everything_stopped else [("users", number) for number in range(8)])
    with members(log, coordinator, tables_url, "a", "b", records_max=10) as (a, b):
        (offset,) = log.append([Append(*at, bad.key, b"\xc3\x01junkjunk and more")]).result()
        append(log, good)
        b.catch_up()
        assert list(b.stopped) == [("users", *at)]
        # However much stands behind it, it holds up nobody.
        others = {key: where for key, where in b.positions.items() if key[1:] != at}
        assert all(where == log.end(*key[1:]) for key, where in others.items())
        append(log, [UndecodableSkipped(envelope(), *at, offset, "op", "junk")])
        b.catch_up()
        assert not b.stopped
        assert b.positions["users", *at] == log.end(*at)
        a.catch_up()
        assert a.positions["operations", "operations", 0] == 1


def test_a_skip_of_before_is_known_to_who_comes(log: EmbeddedLog, tables_url: str) -> None:
    (fact, *_) = (f for f in simple_facts(random.Random(9), 20) if append_of(log, f).topic == "users")
    bad = append_of(log, fact)
    coordinator = Coordinator()
    coordinator.assign("b", [("directory", 0)])
    with members(log, coordinator, tables_url, "b") as (b,):
        (offset,) = log.append([Append(bad.topic, bad.partition, bad.key, b"\xc3\x01junkjunk")]).result()
        append(log, [UndecodableSkipped(envelope(), bad.topic, bad.partition, offset, "op", "junk"), fact])
        coordinator.assign("b", [(bad.topic, bad.partition)])
        b.follow()
        b.catch_up()
        assert not b.stopped
        assert b.positions["users", bad.topic, bad.partition] == 2


Survivable = (DatabaseError, GivenUp)


class _Troupe:
    """Loops that are given partitions, stall, die and come back, as chance has it."""

    def __init__(self, log: EmbeddedLog, url: str, rng: random.Random) -> None:
        self.log, self.url, self.rng = log, url, rng
        self.coordinator = Coordinator()
        self.everything = all_partitions(log, TOPICS_READ)
        self.loops: dict[str, Loop] = {}
        self.zombies: list[Loop] = []
        self.given_up = 0

    def come(self, name: str) -> None:
        """Start, or start again."""
        self.loops[name] = member(self.log, self.coordinator, self.url, name, records_max=self.rng.choice([3, 40]))
        self.coordinator.assign(name, frozenset())

    def deal(self) -> None:
        """Assign all partitions anew; members learn of it at different times."""
        for name in self.loops:
            self.coordinator.assign(name, frozenset())
        hands: dict[str, set[TopicPartition]] = {name: set() for name in self.loops}
        for which in self.everything:
            hands[self.rng.choice(sorted(self.loops))].add(which)
        for name, hand in hands.items():
            self.coordinator.assign(name, frozenset(hand))

    def act(self, name: str) -> None:
        """A turn of the loop, as `Loop.run` has it."""
        loop = self.loops[name]
        try:
            if loop._share is None:
                loop._begin()
            loop.follow()
            for _ in range(self.rng.randint(1, 3)):
                loop.step()
        except Survivable:
            self.given_up += 1
            loop.close()

    def stale(self, name: str) -> None:
        """A batch without asking whose turn it is: the member stalled since its last poll."""
        with suppress(ProjectorError, DatabaseError):
            try:
                self.loops[name].step()
            except BaseException:
                self.loops[name].close()
                raise

    def vanish(self, name: str) -> None:
        """The member is taken for dead, and another comes under its name; it goes on later."""
        self.zombies.append(self.loops[name])
        self.come(name)

    def haunt(self) -> None:
        """A zombie goes on with what it believes that it owns."""
        zombie = self.rng.choice(self.zombies)
        with suppress(*Survivable):
            try:
                zombie.step()
            except BaseException:
                self.zombies.remove(zombie)
                zombie.close()
                raise

    def close(self) -> None:
        for loop in [*self.loops.values(), *self.zombies]:
            loop.close()


@pytest.mark.parametrize("seed", [0, 1, *map(only_in_soak, range(2, 6))])
def test_whatever_moves_when_the_tables_are_those_of_one_loop(
    log: EmbeddedLog,
    tables_url: str,
    postgres: PostgresServer,
    tmp_path: Path,
    seed: int,
) -> None:
    rng = random.Random(seed)
    facts = mixed(rng)
    troupe = _Troupe(log, tables_url, rng)
    for name in ("a", "b", "c"):
        troupe.come(name)
    troupe.deal()
    left = list(facts)
    try:
        while left:
            names = sorted(troupe.loops)
            kind = rng.choices(["append", "act", "deal", "stale", "vanish", "haunt"], [6, 14, 2, 4, 1, 2])[0]
            if kind == "append":
                count = rng.randint(1, 8)
                append(log, left[:count])
                del left[:count]
            elif kind == "haunt":
                if troupe.zombies:
                    troupe.haunt()
            elif kind == "deal":
                troupe.deal()
            else:
                getattr(troupe, kind)(rng.choice(names))
        troupe.deal()
        while dict(_next_offsets(tables_url)) != {which: log.end(*which) for which in troupe.everything}:
            for name in troupe.loops:
                troupe.act(name)
        tables, decided = dump(tables_url), decisions_that_count(log)
    finally:
        troupe.close()
    with alone(postgres, tmp_path / "alone", facts) as (expected, expected_decisions):
        assert tables == expected
        assert decided == expected_decisions


def _next_offsets(url: str) -> list[tuple[TopicPartition, int]]:
    rows = sql(url, "SELECT topic, partition, next_offset FROM positions")
    return [((topic, partition), offset) for topic, partition, offset in rows]


def test_taking_is_asked_for_a_sign_of_life_while_it_looks_for_marks(log: EmbeddedLog, tables_url: str) -> None:
    append(log, mixed(random.Random(10), simple=0))
    with running(log, connector(tables_url)) as loop:
        loop.catch_up()
    empty(tables_url)
    connection = WriteConnection(tables_url, "g1")
    asked: list[int] = []

    def still_ours() -> list[tuple[str, str, int]]:
        asked.append(1)
        return [("rooms", *which) for which in ROOMS]

    try:
        with running(log, connector(tables_url), groups=("users",)) as loop:
            taking = Taking(connection, log, loop._decisions, "b", still_ours, shared=True)
            keys = [("rooms", *which) for which in ROOMS]
            taken = taking.own(taking.look(keys), {})
    finally:
        connection.close()
    assert [one.epoch for one in taken] == [2] * 8, "above the marks of before"
    assert len(asked) > 8
