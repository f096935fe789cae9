"""Asks a room's policy server about what waits, and puts its answers on the log.

A server that cannot be asked is tried again later (ingest.fetchers.follower says when); at the last try what waits is
let go by a fact, so that nothing waits for one that is dead.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from annals.database.pool import Database
from annals.federation.errors import BadAnswer, FederationError, Refused
from annals.federation.policy import is_down
from annals.ingest.fetchers.filling import Unanswered
from annals.ingest.policy.waiting import Waiting, policy_server_in, waiting_in
from annals.matrix.events import Event
from annals.matrix.policy_servers import PolicyServer
from annals.projectors.positions.appending import Appender
from annals.schemas.facts.rooms import PolicyAnswered

_logger = structlog.get_logger(__name__)

AT_ONCE_MAX = 8
_TEXT_MAX = 500
#: What we would be answered ourselves: "The server is not a Policy Server."
_NONE_HERE = (404, "M_UNRECOGNIZED", "this server is no policy server")


class Signs(Protocol):
    """Asks a policy server (federation.policy.PolicyServers)."""

    async def sign(self, event: Event, server: PolicyServer) -> str:
        """Its valid signature; raises FederationError."""
        ...


class PolicyAsker:
    """What is done for a room (follower.Filling)."""

    def __init__(self, server_name: str, servers: Signs, appender: Appender, database: Database) -> None:
        self._server_name, self._servers = server_name, servers
        self._appender, self._database = appender, database

    async def origin_of(self, room_id: str) -> str | None:
        """Who keeps the room waiting: its policy server."""
        server = await self._database.read(lambda snapshot: policy_server_in(snapshot, room_id))
        return server.server_name if server is not None else None

    async def fill(self, room_id: str, last_try: bool = False) -> None:
        """One answer for each event that waits; raises Unanswered where some could not be had."""
        waiting = await self._database.read(lambda snapshot: waiting_in(snapshot, room_id))
        if not waiting.events:
            return
        gate = asyncio.Semaphore(AT_ONCE_MAX)
        asked = await asyncio.gather(*[self._ask(event, waiting, gate, last_try) for event in waiting.events])
        answers = [answer for answer in asked if answer is not None]
        if answers:
            await self._appender.submit_and_settle(answers)
        outcomes = sorted({answer.outcome for answer in answers})
        _logger.info("policy_server_asked", room_id=room_id, events=len(asked), answers=len(answers), outcomes=outcomes)
        if len(answers) < len(asked):
            raise Unanswered(f"the policy server of {room_id}")

    async def _ask(
        self, event: Event, waiting: Waiting, gate: asyncio.Semaphore, last_try: bool
    ) -> PolicyAnswered | None:
        server = waiting.server
        if server is None:
            return self._answer(event, "", "unneeded")
        if server.server_name == self._server_name:
            return self._answer(event, server.server_name, "refused", refusal=_NONE_HERE)
        try:
            async with gate:
                signature = await self._servers.sign(event, server)
        except FederationError as error:
            if not is_down(error):
                return self._answer(event, server.server_name, "refused", refusal=_said(error))
            said = error.reason
        except Exception as error:
            # One that cannot be asked about keeps none of the others waiting.
            _logger.exception("policy_question_failed", room_id=event.room_id, event_id=event.event_id)
            said = repr(error)
        else:
            return self._answer(event, server.server_name, "signed", signature)
        if not last_try:
            return None
        return self._answer(event, server.server_name, "unavailable", refusal=(None, None, said))

    def _answer(
        self,
        event: Event,
        server: str,
        outcome: str,
        signature: str | None = None,
        refusal: tuple[int | None, str | None, str | None] = (None, None, None),
    ) -> PolicyAnswered:
        status, errcode, reason = refusal
        return PolicyAnswered(
            envelope=self._appender.envelope(event.event_id),
            room_id=event.room_id,
            event_id=event.event_id,
            server=server,
            outcome=outcome,
            signature=signature,
            status=status,
            errcode=errcode,
            reason=reason[:_TEXT_MAX] if reason is not None else None,
        )


def _said(error: FederationError) -> tuple[int | None, str | None, str | None]:
    if isinstance(error, Refused):
        return error.status, error.errcode, error.message
    assert isinstance(error, BadAnswer)
    return None, None, error.reason
