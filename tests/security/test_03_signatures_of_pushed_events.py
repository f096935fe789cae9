"""Rows 3 and 15: no event is taken from a transaction without a good signature, by a key that may make it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from annals.matrix.events import Event
from annals.matrix.server_keys import COMPROMISED
from tests.support.logged import facts_of_room
from tests.support.remote_server import RemoteServer
from tests.support.server import LiveServer
from tests.support.server_fixtures import server

__all__ = ["server"]

Forge = Callable[[RemoteServer, RemoteServer, Event], dict[str, Any]]
HOUR_MS = 3600 * 1000


def _signatures(event: Event, signatures: Any) -> dict[str, Any]:
    return {**event.pdu, "signatures": signatures}


FORGERIES: dict[str, Forge] = {
    "no signatures": lambda _, __, event: {k: v for k, v in event.pdu.items() if k != "signatures"},
    "none of the sender": lambda _, other, event: _signatures(event, {other.name: {other.key.key_id: "A" * 86}}),
    "empty": lambda remote, _, event: _signatures(event, {remote.name: {}}),
    "no base64": lambda remote, _, event: _signatures(event, {remote.name: {remote.key.key_id: "%%%"}}),
    "no string": lambda remote, _, event: _signatures(event, {remote.name: {remote.key.key_id: 7}}),
    "zeros": lambda remote, _, event: _signatures(event, {remote.name: {remote.key.key_id: "A" * 86}}),
    "another's": lambda remote, other, event: _signatures(
        event, {remote.name: {remote.key.key_id: other.key.sign(b"x")}}
    ),
    "of other words": lambda _, __, event: {**event.pdu, "origin_server_ts": event.origin_server_ts + 1},
    "another algorithm": lambda remote, _, event: _signatures(event, {remote.name: {"rsa:1": "A" * 86}}),
}


@pytest.mark.parametrize("version", ["1", "10", "12"])
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_bad_signature_is_refused(server: LiveServer, version: str, forgery: str) -> None:
    alice, remote, other = server.user("alice"), RemoteServer(server), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat", room_version=version)
    bob = remote.user("bob")
    remote.join(room_id, bob)
    facts = len(facts_of_room(server, room_id))
    [event] = remote.chain(room_id, bob, ["forged"])
    status, answer = other.send([FORGERIES[forgery](remote, other, event)])
    assert status == 200
    assert all("error" in result for result in answer["pdus"].values())
    assert len(facts_of_room(server, room_id)) == facts
    remote.push(event)


def test_a_key_that_had_expired_vouches_for_nothing_later(server: LiveServer) -> None:
    alice, sender, maker = server.user("alice"), RemoteServer(server), RemoteServer(server, has_keys=False)
    maker.publish_keys(valid_for_ms=-HOUR_MS)
    room_id = alice.create_room(preset="public_chat")
    event = maker.build(room_id, maker.user(), "m.room.message", {"body": "late"})
    facts = len(facts_of_room(server, room_id))
    status, answer = sender.send([event.pdu])
    assert (status, "error" in answer["pdus"][event.event_id]) == (200, True)
    assert len(facts_of_room(server, room_id)) == facts


def test_a_key_that_everybody_has_vouches_for_nothing(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, sender, maker = server.user("alice"), RemoteServer(server), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat")
    event = maker.build(room_id, maker.user(), "m.room.message", {"body": "x"})
    public = maker.key.verify_key.public
    monkeypatch.setattr(server.house.peers.keyring, "_compromised", COMPROMISED | {public})
    _, answer = sender.send([event.pdu])
    assert "key_compromised" in answer["pdus"][event.event_id]["error"]
    assert maker.send([event.pdu])[0] == 401
