"""Leaving a room that we have no state of: an invite is rejected, a knock taken back, with its servers or without."""

from __future__ import annotations

from typing import Any

from annals.federation.client import path_of
from annals.federation.errors import FederationError
from annals.ingest.handshakes.desk import MAKE_TIMEOUT_S, Desk, Handshake, failure_of, is_unknown_endpoint
from annals.ingest.handshakes.errors import AttemptFailed
from annals.ingest.handshakes.templates import LEAVE, MEMBER, Asked
from annals.ingest.pdu_facts import membership_received
from annals.matrix.building import build_event
from annals.matrix.errors import InvalidEvent
from annals.matrix.events import Event
from annals.matrix.hashing import reference_hash
from annals.matrix.room_versions import EventIdFormat

_DEPTH_MAX = 2**53 - 1
_AUTH_EVENTS_MAX = 10


async def leave(desk: Desk, handshake: Handshake, server: str) -> None:
    """One attempt; raises `AttemptFailed`."""
    asked = Asked(handshake.room_id, handshake.user_id, LEAVE, server)
    template = await desk.template(asked, "make_leave")
    ours = desk.signed(template, asked, handshake.content)
    await _send(desk, asked, ours)
    await _write(desk, handshake, ours, server)


async def leave_alone(desk: Desk, handshake: Handshake, before: Event) -> None:
    """Leave where no server of the room helps: an event after the user's last one, which only we shall ever see.

    `before` is the invite or knock. Raises `AttemptFailed` where even that cannot be built on.
    """
    await _write(desk, handshake, _event_after(desk, handshake, before), desk.server_name)


async def _send(desk: Desk, asked: Asked, ours: Event) -> None:
    for version in ("v2", "v1"):
        path = path_of("federation", version, "send_leave", asked.room_id, ours.event_id)
        try:
            await desk.client.put(asked.server, path, ours.pdu, timeout_s=MAKE_TIMEOUT_S)
        except FederationError as error:
            if version == "v2" and is_unknown_endpoint(error):
                continue
            raise failure_of(error) from error
        return


async def _write(desk: Desk, handshake: Handshake, ours: Event, origin: str) -> None:
    envelope = desk.writer.envelope(cause=handshake.handshake_id)
    via = handshake.handshake_id
    await desk.write([membership_received(desk.verified(ours), envelope, origin, via, b"[]", handshake.handshake_id)])


def _event_after(desk: Desk, handshake: Handshake, before: Event) -> Event:
    rules = before.rules
    # What permitted the user's last event, and that event itself: "Leave: the user's current membership is ..."
    auth_events = [*before.auth_events, before.event_id][-_AUTH_EVENTS_MAX:]
    hashes: dict[str, str] = {}
    if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
        hashes = {item[0]: item[1]["sha256"] for item in before.pdu["auth_events"] if "sha256" in item[1]}
        hashes[before.event_id] = reference_hash(before.pdu, rules)
    content: dict[str, Any] = {**handshake.content, "membership": LEAVE}
    try:
        return build_event(
            rules,
            room_id=handshake.room_id,
            sender=handshake.user_id,
            type=MEMBER,
            content=content,
            state_key=handshake.user_id,
            prev_events=[before.event_id],
            auth_events=auth_events,
            depth=min(before.depth + 1, _DEPTH_MAX),
            origin_server_ts=desk.now_ms(),
            server_name=desk.server_name,
            key=desk.key,
            reference_hashes=hashes,
        )
    except InvalidEvent as error:
        raise AttemptFailed(f"no leave can be built: {error}") from error
