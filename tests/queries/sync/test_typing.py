"""Who types: told once a change, whoever made it, and forgotten in time."""

from __future__ import annotations

from annals.queries.sync import typing
from annals.queries.sync.advice import EphemeralCount
from annals.queries.sync.typing import Typing
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.ephemeral import TypingSet

ENVELOPE = Envelope(0, "test", "1")


class Clock:
    now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


def types(user: str, until_ms: int, room: str = "!r") -> TypingSet:
    return TypingSet(ENVELOPE, room, user, until_ms)


def test_a_change_is_told_to_tokens_before_it_and_to_no_other() -> None:
    count = EphemeralCount(7)
    heard = Typing(Clock(), count)
    before = count.offset
    heard.apply(types("@a", 2_000), 7)
    assert heard.changed_since(before) == {"!r": ["@a"]}
    assert heard.changed_since(count.offset) == {}
    heard.apply(types("@a", 2_500), 8)
    assert heard.changed_since(before + 1) == {}, "who types on has changed nothing"
    heard.apply(types("@a", 0), 9)
    assert heard.changed_since(before + 1) == {"!r": []}
    assert heard.changed_since(None) == {}


def test_who_types_after_somebody_ran_out_of_time_is_told() -> None:
    clock = Clock()
    count = EphemeralCount()
    heard = Typing(clock, count)
    heard.apply(types("@a", 1_500), 0)
    heard.apply(types("@b", 1_500, "!other"), 1)
    clock.now_ms = 1_600
    assert sorted(heard.expire()) == ["!other", "!r"]
    token = count.offset
    heard.apply(types("@b", 9_000), 2)
    assert heard.changed_since(token) == {"!r": ["@b"]}
    assert heard.expire() == []


def test_a_token_of_another_process_is_told_all() -> None:
    heard = Typing(Clock(), EphemeralCount())
    heard.apply(types("@a", 2_000), 0)
    assert heard.changed_since(99) == {"!r": ["@a"]}


def test_rooms_in_which_nobody_types_are_forgotten() -> None:
    heard = Typing(Clock(), EphemeralCount())
    count = typing.ROOMS_MAX + 2
    for number in range(count):
        heard.apply(types("@a", 2_000, f"!{number}"), 2 * number)
        heard.apply(types("@a", 0, f"!{number}"), 2 * number + 1)
    assert len(heard.changed_since(0)) < count
