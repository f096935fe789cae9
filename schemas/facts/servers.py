"""Facts of topic `servers`, keyed by server name: what other servers say about themselves."""

from __future__ import annotations

from dataclasses import dataclass

from annals.schemas.facts.envelope import Fact


@dataclass(frozen=True, slots=True)
class ServerKeysFetched(Fact):
    """A server's keys, as it signed them itself. `fetched_from` is the server, or the notary that was asked.

    `answer` is the signed object in canonical JSON, a notary's signature included. What it lets us believe depends on
    the time at which it came.
    """

    server_name: str
    fetched_from: str
    fetched_at_ms: int
    answer: bytes
