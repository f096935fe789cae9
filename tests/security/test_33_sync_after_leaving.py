"""Row 33: whoever is put out of a room hears nothing that came after, not even in a poll that was waiting."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.accounts import Account
from tests.support.servers import Serve


@pytest.mark.parametrize("visibility", ["shared", "joined", "invited"])
@pytest.mark.parametrize("how", ["kick", "ban"])
def test_nothing_after_being_put_out(server: Serve, how: str, visibility: str) -> None:
    alice, bob = Account.new(server.port, "alice"), Account.new(server.port, "bob")
    room_id = alice.create(preset="public_chat")
    alice.put_state(room_id, "m.room.history_visibility", {"history_visibility": visibility})
    bob.member(room_id, "join")
    since = bob.done("GET", "/sync")["next_batch"]
    with ThreadPoolExecutor(1) as waiting:
        poll = waiting.submit(bob.done, "GET", "/sync", since=since, timeout=20_000)
        alice.member(room_id, how, bob)
        secrets = [alice.say(room_id, f"secret {number}") for number in range(3)]
        secrets.append(alice.put_state(room_id, "m.room.topic", {"topic": "secret"}))
        answers = [poll.result()]
    answers.append(bob.done("GET", "/sync", since=since))
    answers.append(bob.done("GET", "/sync", since=answers[0]["next_batch"]))
    answers.append(bob.done("GET", "/sync", filter='{"room":{"include_leave":true}}'))
    answers.append(bob.done("GET", "/sync", since=since, full_state="true"))
    answers.append(bob.done("GET", "/sync", since=since, use_state_after="true"))
    status, page = bob.call("GET", f"/rooms/{room_id}/messages", dir="b", limit=50)
    answers.append(page)
    assert status == 200
    status, page = bob.call("GET", f"/rooms/{room_id}/messages", dir="f", limit=50, **{"from": since})
    answers.append(page)
    for answer in answers:
        assert "secret" not in str(answer)
    for event_id in secrets:
        for name in ("event", "context"):
            assert bob.call("GET", f"/rooms/{room_id}/{name}/{event_id}")[0] in (403, 404)
    # The state is that of the moment they left.
    assert "secret" not in str(bob.call("GET", f"/rooms/{room_id}/state"))
    assert "secret" not in str(bob.call("GET", f"/rooms/{room_id}/state/m.room.topic"))
