"""What a handshake is done with: other servers, verification, our key, the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

from annals.eventlog.errors import BackPressure
from annals.federation.client import FederationClient, Query, path_of
from annals.federation.errors import FederationError, Refused
from annals.ingest.handshakes.errors import AttemptFailed, ServerRefused
from annals.ingest.handshakes.templates import Asked, Template, event_from, read_template
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.verification import VALID, Verified
from annals.matrix.events import Event
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.signing import SigningKey
from annals.projectors.positions.appending import Submitted
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.rooms import SignatureChecked

__all__ = ["Desk", "Handshake", "Writer"]

T = TypeVar("T")
log = structlog.get_logger(__name__)

MAKE_TIMEOUT_S = 20.0
#: Tables that are far behind are waited for; the handshake's own time bounds it.
SETTLE_TIMEOUT_S = 600.0
_QUEUE_FULL_S = 0.2
# Of a server's refusals the user's client is told these; the rest it could take for a word about itself or us (401
# means that its token is gone).
_STATUS_TOLD = frozenset((400, 403, 404))


@dataclass(frozen=True, slots=True)
class Handshake:
    """An open row of `handshakes`. `content`: what the member event carries beside `membership`."""

    handshake_id: str
    room_id: str
    kind: str
    user_id: str
    servers: tuple[str, ...]
    content: Mapping[str, Any]


class Writer(Protocol):
    """How facts get on the log, and how far the tables are (projectors.positions.appending)."""

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        """The envelope of a fact that is written now."""
        ...

    async def submit(self, facts: Sequence[Fact]) -> Submitted:
        """Append the facts; durable when this returns."""
        ...

    async def settle(self, submitted: Submitted, timeout_s: float = ...) -> None:
        """Wait until the tables have them."""
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """One a process. `known_events` are the ids, of those given, of events of the room that are on the log already."""

    server_name: str
    key: SigningKey
    client: FederationClient
    pdus: PduVerifier
    threads: Executor
    writer: Writer
    now_ms: Callable[[], int]
    new_id: Callable[[], str]
    known_events: Callable[[str, Sequence[str]], Awaitable[frozenset[str]]]
    send_timeout_s: float = 240.0
    """For a whole room: a large one takes its server minutes to put together."""

    async def template(self, asked: Asked, endpoint: str) -> Template:
        """What the server proposes at make_…, checked; raises `AttemptFailed`."""
        query: Query = [("ver", version) for version in ROOM_VERSIONS] if endpoint != "make_leave" else ()
        segments = ("federation", "v1", endpoint, asked.room_id, asked.user_id)
        path = path_of(*segments)
        try:
            answer = await self.client.get(asked.server, path, query, timeout_s=MAKE_TIMEOUT_S)
        except FederationError as error:
            raise failure_of(error) from error
        return read_template(answer, asked)

    def signed(self, template: Template, asked: Asked, content: Mapping[str, Any]) -> Event:
        """Our event after a template; raises `TemplateRefused`."""
        return event_from(template, asked, content, self.server_name, self.key, self.now_ms())

    def verified(self, event: Event) -> Verified:
        """An event that we signed a moment ago, as one that was verified."""
        return Verified(event, (SignatureChecked(self.server_name, self.key.key_id, VALID),), True)

    async def submit(self, facts: Sequence[Fact]) -> Submitted:
        """On the log; waits where its queue is full."""
        while True:
            try:
                return await self.writer.submit(facts)
            except BackPressure:
                await asyncio.sleep(_QUEUE_FULL_S)

    async def settle(self, submitted: Submitted) -> None:
        """Until the tables have it. So nothing live queues behind more than two batches of ours."""
        await self.writer.settle(submitted, SETTLE_TIMEOUT_S)

    async def write(self, facts: Sequence[Fact]) -> None:
        """Both."""
        await self.settle(await self.submit(facts))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Work that would hold up everybody else here."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)


def failure_of(error: FederationError) -> AttemptFailed:
    """What a failed request means for the attempt."""
    if not isinstance(error, Refused):
        return AttemptFailed(error.reason, 502, "M_UNKNOWN")
    reason = error.message or error.reason
    if error.status not in _STATUS_TOLD or not error.errcode.startswith("M_"):
        return ServerRefused(reason, 502, "M_UNKNOWN")
    return ServerRefused(reason, error.status, error.errcode[:100])


def is_unknown_endpoint(error: FederationError) -> bool:
    """Whether the server does not know this version of an endpoint."""
    return isinstance(error, Refused) and (
        error.errcode == "M_UNRECOGNIZED" or (error.status in (404, 405) and not error.errcode)
    )
