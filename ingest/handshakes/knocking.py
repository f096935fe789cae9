"""Knocking on a room through one of its servers."""

from __future__ import annotations

from annals.federation.client import path_of
from annals.federation.errors import FederationError
from annals.ingest.handshakes.desk import MAKE_TIMEOUT_S, Desk, Handshake, failure_of
from annals.ingest.handshakes.errors import AnswerRefused
from annals.ingest.handshakes.previews import checked_preview
from annals.ingest.handshakes.templates import KNOCK, Asked
from annals.ingest.pdu_facts import membership_received

_BYTES_MAX = 4 << 20


async def knock(desk: Desk, handshake: Handshake, server: str) -> None:
    """One attempt; raises `AttemptFailed`."""
    asked = Asked(handshake.room_id, handshake.user_id, KNOCK, server)
    template = await desk.template(asked, "make_knock")
    ours = desk.signed(template, asked, handshake.content)
    path = path_of("federation", "v1", "send_knock", asked.room_id, ours.event_id)
    try:
        answer = await desk.client.put(server, path, ours.pdu, timeout_s=MAKE_TIMEOUT_S, bytes_max=_BYTES_MAX)
    except FederationError as error:
        raise failure_of(error) from error
    if type(answer) is not dict:
        raise AnswerRefused("the answer is not an object")
    room_state = await checked_preview(answer.get("knock_room_state"), asked.room_id, template.rules, desk.pdus)
    envelope = desk.writer.envelope(cause=handshake.handshake_id)
    fact = membership_received(
        desk.verified(ours), envelope, server, handshake.handshake_id, room_state, handshake.handshake_id
    )
    await desk.write([fact])
