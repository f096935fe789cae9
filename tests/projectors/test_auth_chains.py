"""The chain cover in the tables: written as events are decided, rebuilt alike, and adopted by rooms from before it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from annals.database.write_connection import WriteConnection
from annals.eventlog.embedded import EmbeddedLog
from annals.projectors.rebuild import replay
from annals.projectors.rooms.load import load
from annals.rooms.needs import CITING_CHAINS_PAGE, NEWEST_CHAIN, CitingChain, Needs
from tests.support.projectors import SERVER_NAME, append, connector, dump, running
from tests.support.room_traffic import RoomStory, numbered_room, traffic
from tests.support.rooms import user

CHAINS = ("auth_chains", "auth_chain_links")
Query = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def query(tables_url: str) -> Query:
    def of(sql: str, generation: str = "g1") -> list[tuple[object, ...]]:
        connection = WriteConnection(tables_url, generation)
        try:
            return connection.rows(sql)
        finally:
            connection.close()

    return of


def _told(log: EmbeddedLog, url: str, seed: int) -> list[RoomStory]:
    stories, facts = traffic(random.Random(seed), rooms=3, length=20)
    with running(log, connector(url)) as loop:
        append(log, facts)
        loop.catch_up()
        assert not loop.stopped
    return stories


def test_whatever_may_be_in_a_state_has_a_place(log: EmbeddedLog, tables_url: str, query: Query) -> None:
    _told(log, tables_url, 3)
    expected = query(
        "SELECT room_id, event_id FROM events"
        " WHERE verdict IN ('accepted', 'soft_failed', 'pending_policy') AND state_key IS NOT NULL"
    )
    assert expected
    assert set(query("SELECT room_id, event_id FROM auth_chains")) == set(expected)
    (linked,) = query("SELECT count(DISTINCT room_id) FROM auth_chain_links")
    assert linked == (len({room_id for room_id, _ in expected}),)


@pytest.mark.soak  # test_rebuild.py compares all tables
@pytest.mark.parametrize("mode", ["fold", "recompute"])
def test_a_new_generation_has_the_same_index(log: EmbeddedLog, tables_url: str, mode: str) -> None:
    _told(log, tables_url, 4)
    source = "g1" if mode == "fold" else None
    replay(log, tables_url, "g2", mode, SERVER_NAME, source_generation=source)  # type: ignore[arg-type]
    one, other = dump(tables_url, "g1"), dump(tables_url, "g2")
    assert one["auth_chains"]
    assert [one[name] for name in CHAINS] == [other[name] for name in CHAINS]


def test_a_room_from_before_the_index_is_adopted_with_its_next_member(
    log: EmbeddedLog, tables_url: str, query: Query
) -> None:
    room = numbered_room("12", 1)
    facts = list(room.tables.facts.values())
    with running(log, connector(tables_url)) as loop:
        append(log, facts)
        loop.catch_up()
    grown = query("SELECT event_id, chain_id, sequence FROM auth_chains ORDER BY 2, 3")
    connection = WriteConnection(tables_url, "g1")
    connection.execute("TRUNCATE auth_chains, auth_chain_links")
    connection.close()
    count = len(room.tables.facts)
    room.send(user("bob"), "m.room.member", {"membership": "join"}, user("bob"))
    with running(log, connector(tables_url), owner="second") as loop:
        append(log, [room.tables.facts[count]])
        loop.catch_up()
        assert not loop.stopped
    adopted = query("SELECT event_id, chain_id, sequence FROM auth_chains ORDER BY 2, 3")
    assert adopted[: len(grown)] == grown
    assert len(adopted) == len(grown) + 1


def test_a_page_of_citing_chains_is_of_the_newest(tables_url: str) -> None:
    connection = WriteConnection(tables_url, "g1")
    try:
        count = CITING_CHAINS_PAGE + 6
        connection.execute(
            "INSERT INTO auth_chains SELECT '!r', '$' || c || '.' || s, c, s, 'm.room.member', '@' || c"
            f" FROM generate_series(1, {count}) c, generate_series(1, 3) s"
        )
        connection.execute(
            "INSERT INTO auth_chain_links SELECT '!r', 1000, c, s, s FROM generate_series(1, "
            f"{count}) c, generate_series(1, 3) s"
        )
        # What links to the newest of these is asked for next, and comes along.
        connection.execute("INSERT INTO auth_chains VALUES ('!r', '$above', 2000, 1, 'm.room.member', '@above')")
        connection.execute(f"INSERT INTO auth_chain_links VALUES ('!r', {count}, 2000, 1, 3)")
        need = "!r", 1000, 2, NEWEST_CHAIN, 0
        along = load(connection, Needs(citing_chains=frozenset([need])))["!r"].citing_chains
        above = CitingChain(2000, 1, "m.room.member", "@above")
        assert along["!r", count, 2, NEWEST_CHAIN, 0] == [above]
        assert along["!r", 2000, 1, NEWEST_CHAIN, 0] == []
        seen: list[CitingChain] = []
        before = 1 << 62
        pages = 0
        while True:
            need = "!r", 1000, 2, before, 0
            page = load(connection, Needs(citing_chains=frozenset([need])))["!r"].citing_chains[need]
            if not page:
                break
            seen, before, pages = [*seen, *page], page[-1].chain_id, pages + 1
        assert [chain.chain_id for chain in seen] == list(range(count, 0, -1))
        assert {chain.sequence for chain in seen} == {2}, "the lowest that leads there"
        assert pages > 1
        assert seen[0] == CitingChain(count, 2, "m.room.member", f"@{count}")
    finally:
        connection.close()


def test_what_a_resolution_reads_comes_at_once(log: EmbeddedLog, tables_url: str) -> None:
    """The same answers as of one need each, which are those of the machine's own tables."""
    stories = _told(log, tables_url, 5)
    connection = WriteConnection(tables_url, "g1")
    try:
        for story in stories:
            tables, room_id = story.driver.tables, story.driver.room_id
            ids = sorted(tables.states)
            for state_ids in (tuple(ids[-2:]), tuple(ids[1:12:2]), (ids[1], ids[-1])):
                need = Needs(resolutions=frozenset([(room_id, state_ids)]))
                found = load(connection, need)[room_id]
                expected = tables.load(need)
                assert found.states == expected.states
                assert {k: dict(v) for k, v in found.changes.items()} == {
                    k: dict(v) for k, v in expected.changes.items()
                }
                assert found.state_keys
                assert found.state_keys == {key: expected.state_keys[key] for key in found.state_keys}
                assert set(found.events) - set(expected.events) <= {(room_id, "$" + room_id[1:])}
                assert found.auth_places == {key: expected.auth_places[key] for key in found.auth_places}
                maps = [tables.state_map(state_id) for state_id in state_ids]
                differing = {key for m in maps for key in m if any(o.get(key) != m[key] for o in maps)}
                assert {e for m in maps for k, e in m.items() if k in differing} <= {e for _, e in found.events}
    finally:
        connection.close()
