"""Who is online: told once a change, to those who share a room, and over in time."""

from __future__ import annotations

from typing import Any

from annals.queries.sync import presence
from annals.queries.sync.advice import EphemeralCount
from annals.queries.sync.presence import Presences
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.ephemeral import PresenceSet
from tests.support.rooms import user
from tests.support.sync_world import World

ENVELOPE = Envelope(0, "test", "1")


class Clock:
    now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


def says(user_id: str, state: str = "online", until_ms: int = 9_000, status: str | None = None) -> PresenceSet:
    text = None if status is None else status.encode()
    return PresenceSet(ENVELOPE, user_id, state, text, 900, state == "online", until_ms, "us")


def board(offset: int = 0) -> tuple[Presences, EphemeralCount, Clock]:
    clock, count = Clock(), EphemeralCount()
    count.begin(offset)
    return Presences(clock, count), count, clock


def states(heard: Presences, token: int | None) -> dict[str, str]:
    return {user_id: one.presence for user_id, one in heard.news(token).changed.items()}


def test_a_change_is_told_to_tokens_before_it_and_to_no_other() -> None:
    heard, count, _ = board(7)
    before = count.offset
    assert heard.apply(says("@a"), 7)
    assert states(heard, before) == {"@a": "online"}
    after = count.offset
    assert not heard.apply(says("@a", until_ms=9_999), 8), "who stays has changed nothing"
    assert not heard.apply(says("@a", "unavailable"), 8), "a record counts once"
    assert states(heard, after) == {}
    assert heard.apply(says("@a", status="lunch"), 9)
    assert heard.apply(says("@b", "unavailable"), 10)
    assert states(heard, after) == {"@a": "online", "@b": "unavailable"}
    assert heard.of("@a").content(1_000) == {
        "presence": "online",
        "last_active_ago": 100,
        "status_msg": "lunch",
        "currently_active": True,
    }


def test_an_initial_sync_is_told_who_is_there() -> None:
    heard, count, _ = board()
    for offset, fact in enumerate((says("@a"), says("@b"), says("@a", "offline", 0))):
        heard.apply(fact, offset)
    assert states(heard, None) == {"@b": "online"}
    assert states(heard, 0) == {"@a": "offline", "@b": "online"}
    assert states(heard, count.offset + 50) == states(heard, 0), "a token of another process's count"


def test_of_whom_nobody_says_more_is_offline() -> None:
    heard, count, clock = board()
    heard.apply(says("@a"), 0)
    heard.apply(says("@b", until_ms=20_000), 1)
    token = count.offset
    clock.now_ms = 9_000
    assert heard.expire() == ["@a"]
    assert states(heard, token) == {"@a": "offline"}
    assert heard.reporter("@a") is None
    assert heard.reporter("@b") == "us"
    assert heard.expire() == []


def test_what_was_said_before_the_start_is_known_and_no_news() -> None:
    heard, count, _ = board(5)
    heard.apply(says("@a"), 1)
    heard.apply(says("@b", until_ms=500), 2)
    assert count.offset == 5
    assert states(heard, 5) == {}
    assert states(heard, None) == {"@a": "online"}


def test_unknown_words_are_left_alone_and_so_many_users_are_kept(monkeypatch: Any) -> None:
    monkeypatch.setattr(presence, "USERS_MAX", 3)
    heard, _, _ = board()
    assert not heard.apply(says("@x", "busy"), 0)
    for number in range(5):
        heard.apply(says(f"@{number}"), number + 1)
    assert list(states(heard, None)) == ["@4", "@3", "@2"]


def shown(answer: Any) -> dict[str, str]:
    events = answer.get("presence", {"events": []})["events"]
    assert all(event["type"] == "m.presence" for event in events)
    return {event["sender"]: event["content"]["presence"] for event in events}


def test_a_sync_tells_those_who_share_a_room(world: World) -> None:
    heard, count, _ = board()
    room, other = world.room(), world.room()
    world.member(room, "dora", "join")
    world.member(other, "erik", "join")
    heard.apply(says(user("dora")), 0)
    heard.apply(says(user("erik")), 1)
    alice, dora = (world.sync(name, presence=heard.news(None)) for name in ("alice", "dora"))
    assert shown(alice) == {user("dora"): "online", user("erik"): "online"}
    # One's own is told, and is nothing to wait for.
    assert shown(dora) == {user("dora"): "online"}
    token, since = dora["next_batch"], count.offset
    heard.apply(says(user("erik"), "unavailable"), 2)
    assert world.sync("dora", token, presence=heard.news(since))["empty"]
    heard.apply(says(user("dora"), "unavailable"), 3)
    mine = world.sync("dora", token, presence=heard.news(since))
    assert (shown(mine), mine["empty"]) == ({user("dora"): "unavailable"}, True)
    hidden = {"presence": {"not_senders": [user("dora")]}}
    assert shown(world.sync("dora", token, hidden, presence=heard.news(since))) == {}
    heard.apply(says(user("alice")), 4)
    hers = world.sync("dora", token, presence=heard.news(since))
    assert (shown(hers)[user("alice")], hers["empty"]) == ("online", False)


def test_who_comes_is_told_of_those_who_are_there_and_they_of_who_comes(world: World) -> None:
    heard, count, _ = board()
    room = world.room()
    for offset, name in enumerate(("alice", "dora")):
        heard.apply(says(user(name)), offset)
    tokens = {name: world.sync(name)["next_batch"] for name in ("alice", "dora")}
    world.member(room, "dora", "join")
    quiet = heard.news(count.offset)
    assert shown(world.sync("dora", tokens["dora"], presence=quiet)) == {user("alice"): "online"}
    assert shown(world.sync("alice", tokens["alice"], presence=quiet)) == {user("dora"): "online"}
    world.member(room, "dora", "leave")
    heard.apply(says(user("dora"), "unavailable"), 2)
    assert shown(world.sync("alice", tokens["alice"], presence=heard.news(2))) == {}
