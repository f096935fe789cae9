"""Inviting users of other servers: their server must sign the event before it is logged.

    draft, judged ─▶ the other server signs ─▶ log ─▶ outcome

While the other server takes its time the room goes on: then the invite makes a fork, which the next event joins.
"""

from __future__ import annotations

from typing import Protocol

from annals.commands.rooms.builder import Builders
from annals.commands.rooms.drafts import Drafts
from annals.commands.rooms.membership import Change, check_invite
from annals.commands.rooms.plans import ReadyMade, Send
from annals.matrix.events import Event
from annals.rooms.heads import Intent
from annals.rooms.view import RoomView


class RemoteInviter(Protocol):
    """Has the invited user's server sign. The composition root gives it, as it needs the network."""

    async def __call__(self, event: Event) -> Event:
        """The event with that server's signature added; raises Refused where it cannot be had."""
        ...


class _Done(Exception):
    """An earlier try has logged the invite."""

    def __init__(self, event_id: str) -> None:
        super().__init__(event_id)
        self.event_id = event_id


class OutgoingInvites:
    """Invites users of other servers."""

    def __init__(self, drafts: Drafts, builders: Builders, inviter: RemoteInviter) -> None:
        self._drafts, self._builders, self._inviter = drafts, builders, inviter

    async def invite(self, room_id: str, change: Change) -> str:
        """The id of the invite, which is in the room. Raises Refused, and what `errors.NOT_NOW` lists.

        The same `change.idempotency_key` again asks nobody.
        """

        def wish(view: RoomView) -> Intent:
            check_invite(view, change)
            first = view.first_of_key(change.idempotency_key) if change.idempotency_key else None
            if first is not None:
                raise _Done(first.event_id)
            return change.intent()

        try:
            event = await self._drafts.draft(room_id, wish, complete=True)
        except _Done as done:
            return done.event_id
        signed = await self._inviter(event)
        # Without a key of its own it has that of the event, which nobody makes twice.
        made = ReadyMade(signed, change.idempotency_key or f"invite {event.event_id}")
        return (await self._builders.carry_out(room_id, lambda _: Send((made,)))).event_ids[0]
