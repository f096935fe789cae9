"""A room builder over the machine in memory: what it appends is decided at once, and told as a notice tells it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from annals.commands.rooms.builder import RoomBuilder, Workshop
from annals.commands.rooms.outcomes import Outcome, Outcomes
from annals.commands.rooms.policy import SignsSoon
from annals.matrix.events import Event
from annals.matrix.policy_servers import PolicyServer
from annals.projectors.positions.appending import Appender
from annals.rooms.needs import Loaded, Needs
from tests.support.rooms import SIGNER, Driver


class NobodyAsked:
    """There is no policy server to ask."""

    async def sign_soon(self, event: Event, server: PolicyServer) -> str:
        """Fails the test."""
        raise AssertionError(f"{server} was asked about {event}")


class Tables:
    """The tables of one room; counts what is asked of them."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.asked: list[Needs] = []
        self.outcomes_asked = 0

    async def load(self, needs: Needs) -> Loaded:
        """From memory."""
        self.asked.append(needs)
        return self.driver.tables.load(needs)

    async def outcomes(self, room_id: str, event_ids: list[str]) -> Outcomes:
        """From memory."""
        self.outcomes_asked += 1
        tables = self.driver.tables
        found = {}
        for event_id in event_ids:
            first = tables.duplicates.get(event_id)
            found[event_id] = Outcome(tables.events[first or event_id]["verdict"].verdict, event_id=first)
        return Outcomes(found, frozenset(tables.extremities), halted=False)


class DrivenAppender(Appender):
    """What is appended is decided at once, and then told as a notice tells it."""

    driver: Driver
    tell: Callable[[str | None], None]

    async def submit(self, facts: Any) -> Any:
        """Decide them."""
        self.driver.feed(*facts)

    async def settle(self, submitted: Any, timeout_s: float | None = None) -> None:
        """Tell the builder that the tables have them."""
        header = self.driver.view.known_header()
        self.tell(header.extremities[0] if len(header.extremities) == 1 else None)


def builder_of(driver: Driver, policy: SignsSoon | None = None) -> tuple[RoomBuilder, Tables]:
    """A builder of the driver's room, and what it reads. `policy` None: no policy server may be asked."""
    tables, clock = Tables(driver), itertools.count(1)
    appender = DrivenAppender.__new__(DrivenAppender)
    appender.clock, appender.writer, appender.version = (lambda: next(clock)), "test", "1"
    appender.driver = driver
    builder = RoomBuilder(
        driver.room_id, Workshop(appender, tables, SIGNER, lambda: next(clock), policy or NobodyAsked())
    )
    appender.tell = builder.room_moved
    return builder, tables
