"""Events that are built on a room's head and judged, and not logged: templates for other servers, and events that
another server must sign before they are ours to log.

A draft follows what the tables have, never what a builder is about to log: nobody else may see that before it is
accepted.
"""

from __future__ import annotations

from collections.abc import Callable

from annals.commands.errors import TryAgain
from annals.commands.rooms.builder import (
    FORESEEN_OFFSET,
    NEEDS_ROUNDS_MAX,
    Workshop,
    forbidden,
    refusal_of,
    rules_of,
)
from annals.commands.rooms.policy import Unsigned, signature_for, signed
from annals.matrix.errors import InvalidEvent
from annals.matrix.events import Event
from annals.rooms.heads import Intent, build_on, fact_of, foresee
from annals.rooms.needs import Loaded, Needs
from annals.rooms.policy import lacks_signature
from annals.rooms.state import Lacking
from annals.rooms.view import ACCEPTED, RoomView, learn, unknown_room

#: What is wanted of the room as it is. Raises Refused where the room forbids it, Lacking where it must learn first.
Wish = Callable[[RoomView], Intent]


class Drafts:
    """Builds and judges single events of a room, whoever their sender is."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    async def draft(self, room_id: str, wish: Wish, *, complete: bool = False) -> Event:
        """The event, signed by us, that the room would accept now. Raises Refused (403: it would not), TryAgain.

        `complete`: with the signature of the room's policy server, where it uses one.
        """
        view = unknown_room(room_id)
        for _ in range(NEEDS_ROUNDS_MAX):
            try:
                return self._drafted(view, wish, complete)
            except Unsigned as unsigned:
                return await self._signed(unsigned)
            except Lacking as lacking:
                view = learn(view, await self._workshop.tables.load(lacking.needs))
            except InvalidEvent as error:
                raise refusal_of(error) from None
        raise TryAgain("the room's view has needs without end")

    async def _signed(self, unsigned: Unsigned) -> Event:
        signature = await signature_for(self._workshop.policy, unsigned)
        try:
            return signed(unsigned.event, unsigned.server, signature)
        except InvalidEvent as error:
            raise refusal_of(error) from None

    def _drafted(self, view: RoomView, wish: Wish, complete: bool) -> Event:
        workshop = self._workshop
        view.known_header()
        rules = rules_of(view)
        event = build_on(view, wish(view), rules, workshop.signer, workshop.clock())
        fact = fact_of(event, workshop.appender.envelope())
        # Made this moment: no table has it.
        view = learn(view, Loaded(events={(view.room_id, event.event_id): None}))
        foreseen = foresee(view, fact, FORESEEN_OFFSET)
        if isinstance(foreseen, Needs):
            raise Lacking(foreseen)
        if foreseen.verdict is None or foreseen.verdict.verdict != ACCEPTED:
            raise forbidden(foreseen.verdict.reason if foreseen.verdict else None)
        if complete and (server := lacks_signature(view, event)) is not None:
            raise Unsigned(event, server)
        return event
