"""Row 35: a stranger learns neither name nor members of a private room, nor whether there is one."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.support.accounts import Account
from tests.support.servers import Serve

READS = ["state", "members", "joined_members", "state/m.room.name", "messages?dir=b", "aliases"]
READS += ["state/m.room.member/{alice}", "state/m.room.create"]


@pytest.mark.parametrize("path", READS)
def test_strangers_read_nothing_and_cannot_tell(server: Serve, path: str) -> None:
    alice, mallory = Account.new(server.port, "alice"), Account.new(server.port, "mallory")
    room_id = alice.create(name="Secret club")
    path = path.format(alice=alice.user_id)
    status, answer = mallory.call("GET", f"/rooms/{room_id}/{path}")
    assert status == 403, answer
    assert answer["errcode"] == "M_FORBIDDEN"
    nowhere = "!" + "A" * 43
    assert mallory.call("GET", f"/rooms/{nowhere}/{path}") == (status, answer)


WRITES = [
    ("PUT", "send/m.room.message/t", {"msgtype": "m.text", "body": "x"}),
    ("PUT", "state/m.room.topic", {"topic": "x"}),
    ("POST", "join", {}),
    ("POST", "invite", {"user_id": "@x:localhost"}),
    ("POST", "kick", {"user_id": "@x:localhost"}),
    ("PUT", "typing/{mallory}", {"typing": True}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_strangers_do_nothing(server: Serve, method: str, path: str, body: dict[str, object]) -> None:
    alice, mallory = Account.new(server.port, "alice"), Account.new(server.port, "mallory")
    room_id = alice.create()
    before = alice.done("GET", "/sync")
    status, answer = mallory.call(method, f"/rooms/{room_id}/{path.format(mallory=quote(mallory.user_id))}", body)
    assert status == 403, answer
    assert "rooms" not in alice.done("GET", "/sync", since=before["next_batch"])
