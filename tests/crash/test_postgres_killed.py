"""All of PostgreSQL is killed with commits that are not on disk: nothing lost, nothing decided anew, nobody misled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from annals.projectors.rooms.decided import MARK_KEY
from annals.server.operator_access import opened_log
from tests.support.crashes import Watch, Whole, at, kill_postgres, positions, stopped, wait_ready
from tests.support.matrix_client import Client, register, timeline
from tests.support.rebuild_check import decided_twice
from tests.support.servers import Serve
from tests.support.waiting import until

#: That it is killed while the log is Kafka, test_processes_killed shows.
pytestmark = pytest.mark.one_log
SAID = 30


def decisions(serve: Serve) -> int:
    """How many records of decisions there are."""
    with opened_log(serve.config) as log:
        records = [
            record
            for partition in range(log.partitions("decisions.g1"))
            for record in log.read("decisions.g1", partition, 0, max_records=100_000, max_bytes=1 << 30)
        ]
    return sum(record.key != MARK_KEY for record in records)


@dataclass(frozen=True, slots=True)
class Lost:
    """PostgreSQL was killed and had commits that were not on disk. `before`: the positions that it had then."""

    before: dict[tuple[str, int], int]
    decided: int
    eve: Client
    """Registered last; her token has not been used."""


@contextmanager
def gone_back(whole: Whole, said: list[str]) -> Iterator[Lost]:
    """The tables are of before, and the projectors stand still. `said` gets the ids of what ann says until then.

    What is lost is what nobody's synchronous commit, of a lease for one, has brought to disk since: so it is tried
    until something was, or the tests that follow would prove nothing.
    """
    for attempt in range(20):
        eve = register(whole.serve.port, f"eve{attempt}")
        said.append(whole.ann.say(whole.room_id, f"attempt {attempt}", patient=True))
        with stopped(whole.serve, "projectors"):
            before = positions(whole.serve)
            kill_postgres(whole.serve)
            lost = positions(whole.serve)
            if any(lost[which] < offset for which, offset in before.items()):
                yield Lost(before, decisions(whole.serve), eve)
                return
        wait_ready(whole.serve)
    pytest.fail("all commits were on disk, each time that PostgreSQL was killed")


def test_what_postgres_lost_is_folded_again(whole: Whole) -> None:
    since = whole.bob.sync()["next_batch"]
    said = [whole.ann.say(whole.room_id, f"before {number}") for number in range(SAID)]
    dan = register(whole.serve.port, "dan")
    with Watch(dan) as watch, Watch(whole.ann) as chatting:
        until(lambda: watch.tokens and chatting.tokens, "both have a token")
        with gone_back(whole, said) as lost:
            # Tables of before do not know her token, and it stands nowhere else.
            with Watch(lost.eve, syncs=False) as asking:
                until(lambda: asking.whoami.count(503) > 5, "tables of before do not answer")
            assert set(asking.whoami) == {503}
        seen, heard = len(watch.tokens), len(chatting.tokens)
        until(lambda: len(watch.tokens) > seen + 2 and len(chatting.tokens) > heard, "served again")
    for each in (watch, chatting):
        each.check()
    assert lost.eve.call("GET", "/account/whoami")[0] == 200
    now = positions(whole.serve)
    assert {which: offset for which, offset in now.items() if offset < lost.before[which]} == {}
    assert decisions(whole.serve) == lost.decided
    assert decided_twice(whole.serve.config) == []
    assert timeline(whole.bob.sync(since, patient=True), whole.room_id)[-10:] == said[-10:]
    assert [event["event_id"] for event in whole.bob.history(whole.room_id)][: len(said)] == said[::-1]


def test_it_is_killed_while_clients_talk(whole: Whole) -> None:
    wait_ready(whole.serve)
    with Watch(whole.bob) as watch:
        ann, said = at(whole.ann), []
        for number in range(2 * SAID):
            said.append(ann.say(whole.room_id, f"meanwhile {number}", patient=True))
            if number % SAID == SAID // 2:
                kill_postgres(whole.serve)
    watch.check()
    assert watch.tokens
    assert [event["event_id"] for event in whole.bob.history(whole.room_id)][: 2 * SAID] == said[::-1]
    assert decided_twice(whole.serve.config) == []
