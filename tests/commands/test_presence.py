"""What the log is told of the presence of our users: changes only, by the clock that is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from annals.commands.presence import AGAIN_MS, IDLE_AFTER_MS, OFFLINE_AFTER_MS, PresenceDesk
from annals.eventlog.errors import BackPressure
from annals.projectors.positions.appending import Submitted
from annals.queries.sync.advice import EphemeralCount
from annals.queries.sync.presence import Presences
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.ephemeral import PresenceSet

pytestmark = pytest.mark.anyio
ALICE = "@alice:test"


class Town:
    """A log of presence, its clock, and processes that share it."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.said: list[PresenceSet] = []
        self.board = Presences(self.clock, EphemeralCount())
        self.refuses = False

    def clock(self) -> int:
        return self.now_ms

    def envelope(self) -> Envelope:
        return Envelope(self.now_ms, "test", "1")

    async def submit(self, facts: Sequence[Any]) -> Submitted:
        if self.refuses:
            raise BackPressure
        start = len(self.said)
        self.said += facts
        return Submitted(tuple(("ephemeral", 0, start + index) for index in range(len(facts))))

    def desk(self, process: str = "one") -> PresenceDesk:
        town: Any = self
        return PresenceDesk(town, self.board, process)  # type: ignore[arg-type]

    def states(self) -> list[str]:
        return [fact.presence for fact in self.said]


async def polls(desk: PresenceDesk, device: str = "D", state: str = "online") -> None:
    """One poll that ends at once."""
    with desk.polling(ALICE, device, state):
        await desk.look([ALICE])


async def test_polling_says_it_once_and_staying_away_once() -> None:
    town = Town()
    desk = town.desk()
    for _ in range(20):
        await polls(desk)
        town.now_ms += OFFLINE_AFTER_MS - 1
        await desk.look([ALICE])
    # It is said again every few minutes, so that a process that ends keeps nobody online.
    assert set(town.states()) == {"online"}
    assert len(town.said) == 1 + (19 * (OFFLINE_AFTER_MS - 1)) // AGAIN_MS
    assert [fact.currently_active for fact in town.said] == [True] * len(town.said)
    town.now_ms += 1
    await desk.look([ALICE])
    await desk.look([ALICE])
    assert town.states()[-1] == "offline"
    assert town.states().count("offline") == 1


async def test_a_long_poll_keeps_its_user_online_and_offline_ones_say_nothing() -> None:
    town = Town()
    desk = town.desk()
    await polls(desk, state="offline")
    assert town.said == []
    with desk.polling(ALICE, "D", "online"):
        await desk.look([ALICE])
        town.now_ms += OFFLINE_AFTER_MS * 2
        await desk.look([ALICE])
    town.now_ms += OFFLINE_AFTER_MS - 1
    await polls(desk, state="offline")
    assert town.states() == ["online"]
    town.now_ms += 1
    await desk.look([ALICE])
    assert town.states() == ["online", "offline"]


async def test_a_user_is_as_much_there_as_the_device_that_is_there_most() -> None:
    town = Town()
    desk = town.desk()
    await polls(desk, "phone", "unavailable")
    await polls(desk, "desktop", "online")
    await polls(desk, "phone", "unavailable")
    assert town.states() == ["unavailable", "online"]
    town.now_ms += OFFLINE_AFTER_MS - 1
    await polls(desk, "phone", "unavailable")
    town.now_ms += 1
    await desk.look([ALICE])
    assert town.states() == ["unavailable", "online", "unavailable"]


async def test_what_a_user_sets_is_said_and_ends_in_idleness() -> None:
    town = Town()
    desk = town.desk()
    await desk.set(ALICE, "D", "online", "at work")
    await desk.set(ALICE, "D", "unavailable", "lunch")
    await desk.set(ALICE, "D", "online", None)
    assert town.states() == ["online", "unavailable", "online"]
    assert [fact.status_msg for fact in town.said] == [b"at work", b"lunch", None]
    # Polls that are to set nothing keep it there, but are not what a user does.
    with desk.polling(ALICE, "D", "offline"):
        town.now_ms += IDLE_AFTER_MS
        await desk.look([ALICE])
        await desk.look([ALICE])
    assert town.states()[3:] == ["unavailable"]
    town.now_ms += OFFLINE_AFTER_MS
    await desk.look([ALICE])
    assert town.states()[4:] == ["offline"]


async def test_a_status_message_outlives_polls() -> None:
    town = Town()
    desk = town.desk()
    await desk.set(ALICE, "D", "unavailable", "lunch")
    await polls(desk)
    assert (town.said[-1].presence, town.said[-1].status_msg) == ("online", b"lunch")


async def test_of_two_processes_each_takes_back_only_what_it_said() -> None:
    town = Town()
    one, two = town.desk("one"), town.desk("two")
    await polls(one, "phone")
    town.now_ms += OFFLINE_AFTER_MS - 1
    await polls(two, "desktop")
    assert town.states() == ["online"]
    town.now_ms += 1
    await two.look([ALICE])
    await one.look([ALICE])
    assert town.states() == ["online", "offline"]
    # Who did not say it does not take it back.
    assert town.said[0].reporter == town.said[1].reporter == "one"
    # The other hears of it, and has a device that is there.
    two.stir([ALICE, "@unknown:test"])
    await two.look([ALICE])
    assert [(fact.presence, fact.reporter) for fact in town.said[-1:]] == [("online", "two")]


async def test_a_device_that_leaves_one_process_leaves_no_other() -> None:
    town = Town()
    one, two = town.desk("one"), town.desk("two")
    with one.polling(ALICE, "phone", "online"):
        await one.look([ALICE])
        await polls(two, "desktop")
        town.now_ms += OFFLINE_AFTER_MS
        await two.look([ALICE])
    assert town.states() == ["online"]


async def test_a_process_that_ended_keeps_nobody_online() -> None:
    town = Town()
    await polls(town.desk("one"))
    assert town.board.expire() == []
    town.now_ms = town.said[-1].until_ms
    assert town.board.expire() == [ALICE]


async def test_a_log_that_cannot_take_it_is_tried_again() -> None:
    town = Town()
    desk = town.desk()
    town.refuses = True
    with pytest.raises(BackPressure):
        await polls(desk)
    town.refuses = False
    await desk.look([ALICE])
    assert town.states() == ["online"]


async def test_switched_off_nothing_is_said() -> None:
    town: Any = Town()
    desk = PresenceDesk(town, None, "one")
    await polls(desk)
    await desk.set(ALICE, "D", "online", "x")
    assert town.said == []
