"""An event below which we know nothing, and the state before it: so that what lies above has something to stand on.

    state_ids at the event ─▶ which of these we lack ─▶ /event each, or /state ─▶ verified, their auth events too
        ─▶ on the log: what was lacking, in order of the auth graph; the sets in chunks; the event; StateSetClosed

Of events that are here only their being here is asked: none is loaded. Nothing is logged before all is fetched, and
nothing whose auth events are neither here nor logged before it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from annals.federation.errors import BadAnswer, Refused
from annals.ingest.fetchers.answers import Source
from annals.ingest.fetchers.by_id import ById
from annals.ingest.fetchers.graph import well_founded
from annals.ingest.fetchers.questions import StateIds
from annals.ingest.verification import Verified
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.rooms import StateSetChunk, StateSetClosed

ANCHOR, AUTH, STATE = "anchor", "auth", "state"
GAP = "gap"
CHUNK_MAX = 1_000
#: One in so many lacking: then the whole state is asked for at once.
STATE_SHARE = 10
BY_ID_MAX = 500


@dataclass(slots=True)
class Anchors:
    """Fetches anchors, for gaps and backfill alike."""

    by_id: ById

    async def set(self, source: Source, event_id: str, anchor: Verified | None = None) -> bool:
        """Fetch the event (unless it is given) and the state before it from one server, and log both.

        False: it does not have them, or what it has is worth nothing. Raises FederationError where it cannot be asked.
        """
        ids = await self.by_id.questions.state_ids(source.server, source.room_id, event_id)
        if source.create_event_id not in ids.state:
            # By an empty state, or one of another room, everything above would be rejected, for good.
            raise BadAnswer(source.server, f"the state before {event_id} is not one of this room")
        anchor = anchor or (await self.by_id.fetch(source, [event_id])).get(event_id)
        if anchor is None or event_id in ids.state:
            return False
        named = dict.fromkeys((*ids.auth_chain, *ids.state, *anchor.event.auth_events))
        named.pop(event_id, None)
        here = await self.by_id.present(source.room_id, named.keys())
        lacking = [other for other in named if other not in here]
        fetched = await self._fetched(source, event_id, lacking, len(named))
        closed = await self.by_id.close(source, {**fetched, event_id: anchor}, here)
        kept = well_founded((verified.event for verified in closed.found.values()), closed.here)
        if all(event.event_id != event_id for event in kept):
            return False
        logged = {event.event_id for event in kept if event.event_id != event_id}
        state = set(ids.state)
        facts = [
            self._fact(source, closed.found[event.event_id], STATE if event.event_id in state else AUTH)
            for event in kept
            if event.event_id != event_id
        ]
        facts += self._set(source, anchor, _narrowed(ids, closed.here | logged, event_id))
        await self.by_id.answers.write(facts)
        return True

    async def _fetched(self, source: Source, event_id: str, lacking: Sequence[str], of: int) -> dict[str, Verified]:
        if not lacking:
            return {}
        if len(lacking) <= BY_ID_MAX and len(lacking) * STATE_SHARE < of:
            return await self.by_id.fetch(source, lacking)
        try:
            pdus = await self.by_id.questions.state(source.server, source.room_id, event_id)
        except (BadAnswer, Refused):
            if len(lacking) > BY_ID_MAX:
                raise
            return await self.by_id.fetch(source, lacking)
        came = await self.by_id.answers.by_id(source.rules, pdus)
        del pdus
        found = await self.by_id.answers.verified(source, [came[other].pdu for other in lacking if other in came])
        rest = [other for other in lacking if other not in came]
        return found | (await self.by_id.fetch(source, rest) if len(rest) <= BY_ID_MAX else {})

    def _fact(self, source: Source, verified: Verified, purpose: str) -> Fact:
        return self.by_id.answers.fact(source, verified, purpose)

    def _set(self, source: Source, anchor: Verified, ids: StateIds) -> list[Fact]:
        set_id, room_id, appender = secrets.token_hex(12), source.room_id, self.by_id.answers.appender
        facts: list[Fact] = [
            StateSetChunk(appender.envelope(), room_id, set_id, role, start // CHUNK_MAX, of[start : start + CHUNK_MAX])
            for role, of in ((STATE, ids.state), (AUTH, ids.auth_chain))
            for start in range(0, len(of), CHUNK_MAX)
        ]
        facts.append(self._fact(source, anchor, ANCHOR))
        facts.append(
            StateSetClosed(
                envelope=appender.envelope(),
                room_id=room_id,
                set_id=set_id,
                purpose=GAP,
                event_id=anchor.event.event_id,
                origin=source.server,
                state_count=len(ids.state),
                auth_count=len(ids.auth_chain),
                handshake_id=None,
            )
        )
        return facts


def _narrowed(ids: StateIds, had: set[str], event_id: str) -> StateIds:
    """The sets without what could not be had, and without the event itself: no state before an event holds it."""
    return StateIds(
        tuple(other for other in ids.state if other in had and other != event_id),
        tuple(other for other in ids.auth_chain if other in had and other != event_id),
    )
