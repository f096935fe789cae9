"""Facts of an answer go on the log at the pace of the tables."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from annals.ingest.fetchers.answers import FACTS_AT_ONCE, Answers
from annals.ingest.pdu_verifier import PduVerifier
from annals.projectors.positions.appending import Submitted
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.rooms import GapAbandoned


class Paced:
    """An appender. `ahead`: facts that were not waited for, after each append."""

    def __init__(self) -> None:
        self.written: list[Fact] = []
        self.settled = 0
        self.ahead: list[int] = []

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        return Envelope(1, "remote", "1", cause, idempotency_key)

    async def submit(self, facts: Sequence[Fact]) -> Submitted:
        first = len(self.written)
        self.written += facts
        self.ahead.append(len(self.written) - self.settled)
        return Submitted(tuple(("rooms", 0, first + number) for number in range(len(facts))))

    async def settle(self, submitted: Submitted, timeout_s: float = 1.0) -> None:
        self.settled = submitted.at[-1][2] + 1


def test_a_large_answer_is_never_more_than_two_parts_ahead_of_the_tables() -> None:
    paced = Paced()
    facts = [GapAbandoned(paced.envelope(), "!r:x", (f"${number}",), "x") for number in range(7 * FACTS_AT_ONCE + 3)]
    with ThreadPoolExecutor(1) as threads:
        asyncio.run(Answers(cast(PduVerifier, None), paced, threads).write(facts))
    assert paced.written == facts
    assert paced.settled == len(facts)
    assert max(paced.ahead) == 2 * FACTS_AT_ONCE
