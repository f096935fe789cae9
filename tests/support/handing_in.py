"""The joining side of handshakes with our rooms, played by tests.support.remote_server, every step by itself."""

from __future__ import annotations

import time
from typing import Any

from annals.matrix.building import build_event
from annals.matrix.events import Event
from annals.matrix.room_versions import ROOM_VERSIONS, EventIdFormat
from tests.support.remote_server import RemoteServer
from tests.support.server import quoted

FEDERATION = "/_matrix/federation"
ALL_VERSIONS = "&".join(f"ver={version}" for version in ROOM_VERSIONS)


def make(remote: RemoteServer, kind: str, room_id: str, user_id: str, query: str = ALL_VERSIONS) -> tuple[int, Any]:
    """GET make_join, make_leave or make_knock."""
    path = f"{FEDERATION}/v1/make_{kind}/{quoted(room_id)}/{quoted(user_id)}"
    return remote.call("GET", f"{path}?{query}" if query else path)


def signed(remote: RemoteServer, template: dict[str, Any], **changes: Any) -> Event:
    """The event of a template, as the joining server signs it. `changes` are made before that."""
    version, pdu = template["room_version"], {**template["event"], **changes}
    rules = ROOM_VERSIONS[version]
    prev, auth, hashes = pdu["prev_events"], pdu["auth_events"], {}
    if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
        hashes = {event_id: named["sha256"] for event_id, named in [*prev, *auth]}
        prev, auth = [event_id for event_id, _ in prev], [event_id for event_id, _ in auth]
    return build_event(
        rules,
        room_id=pdu["room_id"],
        sender=pdu["sender"],
        type=pdu["type"],
        content=pdu["content"],
        state_key=pdu["state_key"],
        prev_events=prev,
        auth_events=auth,
        depth=pdu["depth"],
        origin_server_ts=time.time_ns() // 1_000_000,
        server_name=remote.name,
        key=remote.key,
        reference_hashes=hashes,
    )


def send(
    remote: RemoteServer,
    kind: str,
    event: Event,
    pdu: dict[str, Any] | None = None,
    version: str | None = None,
    query: str = "",
) -> tuple[int, Any]:
    """PUT send_join, send_leave or send_knock; `pdu`: another body than the event."""
    version = version or ("v1" if kind == "knock" else "v2")
    path = f"{FEDERATION}/{version}/send_{kind}/{quoted(event.room_id)}/{quoted(event.event_id)}"
    return remote.call("PUT", f"{path}?{query}" if query else path, event.pdu if pdu is None else pdu)


def join(remote: RemoteServer, room_id: str, user_id: str) -> tuple[Event, dict[str, Any]]:
    """Both halves, which must succeed: the event, and the answer to send_join."""
    status, template = make(remote, "join", room_id, user_id)
    assert status == 200, template
    event = signed(remote, template)
    status, answer = send(remote, "join", event)
    assert status == 200, answer
    return event, answer
