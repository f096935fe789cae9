"""A switch of generations under a server that runs: nobody is refused, and nobody's tokens skip or repeat."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from annals.database.statements import Statements
from annals.server.operator_access import opened_tables
from tests.support.backends import LogBackend
from tests.support.crashes import People, Talker, Watch, introduced, said_by, wait_ready
from tests.support.operators import LIMITS, REASON, SHORT_STOP, annals, has, killed, owner, rows, serving
from tests.support.rebuild_check import assert_rebuild_equal
from tests.support.servers import Serve
from tests.support.waiting import until

SWITCHING, SWITCHED, TOGETHER = "annals.audit.switching", "annals.audit.switched", "annals.audit.together"
#: Where a switch is killed, whether it has happened then, and whether both are stopped.
KILLS = {
    "before the stop": ((TOGETHER, "stop", 1, "before"), False, False),
    "after the stop": ((TOGETHER, "stop", 1, "after"), False, True),
    "both stand": ((SWITCHING, "_flip", 1, "before"), False, True),
    "before the commit": ((SWITCHING, "record", 1, "after"), False, True),
    "after the commit": ((SWITCHING, "_flip", 1, "after"), True, False),
    "before it is on the log": ((SWITCHED, "_fact", 1, "before"), True, False),
    "before it is finished": ((SWITCHED, "_is_on_log", 1, "after"), True, False),
}
#: Of these the log is a part.
ON_THE_LOG = ("both stand", "after the commit", "before it is on the log", "before it is finished")
#: Its stop ends when its own time is over: this one has nothing to do until it is killed.
BY_ITSELF = "after the stop"


@pytest.fixture(scope="module")
def server(log_backend: LogBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with Serve(tmp_path_factory.mktemp("generations"), **log_backend.environment()) as serve:
        serve.start()
        yield serve


@pytest.fixture(scope="module")
def people(server: Serve) -> People:
    wait_ready(server)
    return introduced(server.port)


def test_a_followed_generation_goes_on_with_the_log(server: Serve, people: People) -> None:
    words = ("replay", "--into", "g2", "--mode", "recompute", "--follow", "--cpu-share", "0.5")
    for side in ("before", "after"):
        killed(server, ("annals.projectors.transaction", "Transactions._commit", 1, side), *words)
    annals(server, *words)
    event_id = people.ann.say(people.room_id, "followed")
    until(lambda: has(server, "g2", event_id), "g2 has what was said")


def test_a_switch_and_back_under_load(server: Serve, people: People) -> None:
    ann, bob, room_id = people.ann, people.bob, people.room_id
    since = bob.sync()["next_batch"]
    with Talker(ann, room_id, "one") as one, Talker(bob, room_id, "two") as two, Watch(ann) as watch:
        talkers = (one, two)
        for name in ("g2", "g1"):
            counts = [len(talker.acknowledged) for talker in talkers]
            assert annals(server, "switch", name, *REASON) == []  # no room differs
            assert serving(server) == name
            for talker, count in zip(talkers, counts, strict=True):
                until(partial(talker.goes_on_from, count + 5), "messages go on")
    for seen in (*(talker.seen for talker in talkers), watch.client.seen):
        assert set(seen) == {200}
    watch.check()
    # The token of before both: everything once, in the order of the timeline.
    told = _told_since(bob, room_id, since)
    history = bob.history(room_id)
    for talker in talkers:
        assert said_by(talker, history) == talker.acknowledged
        ids = [event_id for _, event_id in talker.acknowledged]
        assert [event_id for event_id in told if event_id in set(ids)] == ids
    assert len(told) == len(set(told))


def test_what_serves_or_is_followed_is_not_dropped(server: Serve, people: People) -> None:
    for name in ("g1", "g2"):
        annals(server, "generation", "drop", name, "--yes", status=1)


@pytest.mark.parametrize(
    "where", [pytest.param(where, marks=[] if where in ON_THE_LOG else pytest.mark.one_log) for where in KILLS]
)
def test_a_switch_that_is_killed(server: Serve, people: People, where: str) -> None:
    """It has happened or not, who speaks meanwhile is not refused, and what was left to do is done."""
    kill, happened, stopped = KILLS[where]
    before = serving(server)
    other = "g1" if before == "g2" else "g2"
    with Talker(people.ann, people.room_id, f"killed-{kill[1]}-{kill[3]}") as talker:
        until(lambda: talker.goes_on_from(0), "messages come")
        killed(server, kill, "switch", other, *REASON, limits=SHORT_STOP if where == BY_ITSELF else LIMITS)
        if where != BY_ITSELF:
            assert [_is_stopped(server, name) for name in ("g1", "g2")] == [stopped] * 2
        count = len(talker.acknowledged)
        until(lambda: talker.goes_on_from(count), "messages go on")
    assert set(talker.seen) == {200}
    assert said_by(talker, people.bob.history(people.room_id)) == talker.acknowledged
    assert serving(server) == (other if happened else before)
    until(lambda: not rows(server, "SELECT 1 FROM ops.switches WHERE NOT finished"), "it is finished")


def test_after_a_restart_both_go_on(server: Serve, people: People) -> None:
    if serving(server) != "g2":
        annals(server, "switch", "g2", *REASON)
    server.stop()
    server.start()
    wait_ready(server)
    assert serving(server) == "g2"
    event_id = people.ann.say(people.room_id, "again", patient=True)
    for name in ("g1", "g2"):
        until(partial(has, server, name, event_id), f"{name} has it")
    annals(server, "switch", "g1", *REASON)


def test_a_fold_is_compared_row_for_row_before_it_serves(server: Serve, people: People) -> None:
    annals(server, "replay", "--into", "g3", "--mode", "fold")
    annals(server, "switch", "g3", *REASON, status=1)
    assert serving(server) == "g1"
    annals(server, "diff", "--rows", "g1", "g3")
    assert annals(server, "switch", "g3", *REASON) == []
    event_id = people.ann.say(people.room_id, "in a fold", patient=True)
    assert event_id in {event["event_id"] for event in people.bob.history(people.room_id)}
    annals(server, "switch", "g1", *REASON)


def test_a_generation_that_is_not_followed_any_more_is_dropped(server: Serve, people: People) -> None:
    for name in ("g2", "g3"):
        annals(server, "generation", "unfollow", name)
        until(partial(_is_left, server, name), f"{name} is left")
        annals(server, "generation", "drop", name, "--yes")


def test_tables_follow_from_the_log_after_all_that(server: Serve, people: People) -> None:
    server.stop()
    assert_rebuild_equal(server.config)


def _is_stopped(server: Serve, name: str) -> bool:
    """Whether a generation was stopped until now; then the time of that is over."""

    def end(statements: Statements) -> bool:
        # Rows locked one by one could meet a loop that locks them in another order.
        statements.execute(f"LOCK TABLE {name}.positions IN SHARE ROW EXCLUSIVE MODE")
        return bool(
            statements.rows(
                f"UPDATE {name}.positions SET stop_until_ms = 0"
                " WHERE stop_until_ms >= extract(epoch FROM clock_timestamp()) * 1000 RETURNING 1"
            )
        )

    with opened_tables(server.config) as database:
        assert database is not None
        return database.write_now(end)


def _is_left(server: Serve, name: str) -> bool:
    return owner(server, name) is None


def _told_since(client: Any, room_id: str, since: str) -> list[str]:
    """The event ids that a client hears of after a token, gaps filled by paging back to it."""
    news = client.sync(since, timeout=0)
    room = news["rooms"]["join"][room_id]["timeline"]
    ids = [event["event_id"] for event in room["events"]]
    start = room["prev_batch"] if room["limited"] else None
    while start:
        query = {"dir": "b", "from": start, "to": since, "limit": 100}
        page = client.ok("GET", f"/rooms/{room_id}/messages", None, query)
        ids = [event["event_id"] for event in reversed(page["chunk"])] + ids
        start = page.get("end") if page["chunk"] else None
    return ids
