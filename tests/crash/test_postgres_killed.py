"""All of PostgreSQL is killed with commits that are not on disk: nothing lost, nothing decided anew, nobody misled."""

from __future__ import annotations

from annals.projectors.rooms.decided import MARK_KEY
from annals.server.operator_access import opened_log
from tests.support.crashes import Watch, Whole, at, kill_postgres, positions, stopped, wait_ready
from tests.support.matrix_client import register, timeline
from tests.support.rebuild_check import decided_twice
from tests.support.servers import Serve, until

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


def test_what_postgres_lost_is_folded_again(whole: Whole) -> None:
    since = whole.bob.sync()["next_batch"]
    said = [whole.ann.say(whole.room_id, f"before {number}") for number in range(SAID)]
    # Tokens that tables of before do not know; eve's is used for the first time when it stands nowhere else.
    dan, eve = register(whole.serve.port, "dan"), register(whole.serve.port, "eve")
    before, decided = positions(whole.serve), decisions(whole.serve)
    with Watch(dan) as watch, Watch(whole.ann) as chatting:
        until(lambda: watch.tokens and chatting.tokens, 20, "both have a token")
        with stopped(whole.serve, "projectors"):
            kill_postgres(whole.serve)
            lost = positions(whole.serve)
            # The proof would prove nothing otherwise.
            assert any(lost[which] < offset for which, offset in before.items()), (before, lost)
            with Watch(eve, syncs=False) as asking:
                until(lambda: asking.whoami.count(503) > 5, 30, "tables of before do not answer")
            assert set(asking.whoami) == {503}
        seen = len(watch.tokens)
        until(lambda: len(watch.tokens) > seen + 2 and len(chatting.tokens) > 2, 60, "served again")
    for each in (watch, chatting):
        each.check()
    assert eve.call("GET", "/account/whoami")[0] == 200
    assert {which: offset for which, offset in positions(whole.serve).items() if offset < before[which]} == {}
    assert decisions(whole.serve) == decided
    assert decided_twice(whole.serve.config) == []
    assert timeline(whole.bob.sync(since, patient=True), whole.room_id)[-10:] == said[-10:]
    assert [event["event_id"] for event in whole.bob.history(whole.room_id)][:SAID] == said[::-1]


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
