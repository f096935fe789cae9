"""Row 30: an event is found in its own room only; of others the answer is that of an event that never was."""

from __future__ import annotations

import pytest

from tests.support.accounts import Account
from tests.support.servers import Serve

PATHS = ["/rooms/{room}/event/{event}", "/rooms/{room}/context/{event}"]


@pytest.mark.parametrize("path", PATHS)
def test_an_event_of_another_room_is_not_there(server: Serve, path: str) -> None:
    alice, mallory = Account.new(server.port, "alice"), Account.new(server.port, "mallory")
    secret_room, own_room = alice.create(), mallory.create()
    secret = alice.say(secret_room, "secret")
    never = "$" + "A" * 43
    expected = mallory.call("GET", path.format(room=own_room, event=never))
    assert expected[0] == 404
    assert mallory.call("GET", path.format(room=own_room, event=secret)) == expected
    # Nor in its own room, for a stranger, nor in a room that does not exist.
    hidden = mallory.call("GET", path.format(room=secret_room, event=secret))
    assert hidden == mallory.call("GET", path.format(room=secret_room, event=never))
    assert hidden == mallory.call("GET", path.format(room="!none:nowhere", event=secret))
    assert hidden[0] in (403, 404)


def test_redactions_and_receipts_do_not_reach_over(server: Serve) -> None:
    alice, mallory = Account.new(server.port, "alice"), Account.new(server.port, "mallory")
    secret_room, own_room = alice.create(), mallory.create()
    secret = alice.say(secret_room, "secret")
    mallory.call("PUT", f"/rooms/{own_room}/redact/{secret}/t1", {})
    mallory.call("POST", f"/rooms/{own_room}/receipt/m.read/{secret}", {})
    assert alice.done("GET", f"/rooms/{secret_room}/event/{secret}")["content"]["body"] == "secret"
    status, _ = mallory.call("POST", f"/rooms/{secret_room}/receipt/m.read/{secret}", {})
    assert status in (403, 404)
    shown = alice.done("GET", "/sync")["rooms"]["join"][secret_room]
    assert mallory.user_id not in str(shown)
