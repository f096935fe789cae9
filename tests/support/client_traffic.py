"""Traffic of clients over HTTP that touches every projection: what the drop-and-rebuild tests rebuild.

traffic = make_traffic(port, other_port)      # other_port: a second api process, for forks
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.support.matrix_client import Client, login, register

VERSIONS = ("10", "11", "12")
FORKS = 8


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who talked, and where. `since`: a token of each of them from the middle of it."""

    ann: Client
    bob: Client
    cat: Client
    rooms: tuple[str, ...]
    since: dict[str, str]


def make_traffic(
    port: int, other_port: int | None = None, names: tuple[str, str, str] = ("ann", "bob", "cat")
) -> Traffic:
    """Three people do about everything there is, in a room of each version."""
    ann, bob, cat = (register(port, name) for name in names)
    _accounts(ann, bob, names[1])
    rooms = tuple(_room(ann, bob, cat, version) for version in VERSIONS)
    since = {client.user_id: client.sync()["next_batch"] for client in (ann, bob)}
    for room_id in rooms:
        _changes(ann, bob, cat, room_id)
    if other_port is not None:
        for room_id in rooms:
            _forks(ann, Client(other_port, bob.user_id, bob.token), room_id)
    _direct(ann, bob)
    return Traffic(ann, bob, cat, rooms, since)


def _accounts(ann: Client, bob: Client, name: str) -> None:
    ann.ok("PUT", f"/profile/{quote(ann.user_id)}/displayname", {"displayname": "Ann \u2603 \u0000"})
    ann.ok("PUT", f"/profile/{quote(ann.user_id)}/avatar_url", {"avatar_url": "mxc://localhost/ann"})
    ann.ok("POST", f"/user/{quote(ann.user_id)}/filter", {"room": {"timeline": {"limit": 3}}})
    ann.ok("PUT", f"/user/{quote(ann.user_id)}/account_data/m.direct", {bob.user_id: ["!x:localhost"]})
    second = login(bob.port, name)
    second.ok("POST", "/logout", {})


def _room(ann: Client, bob: Client, cat: Client, version: str) -> str:
    room_id = ann.create_room(
        room_version=version,
        preset="private_chat",
        name=f"version {version}",
        topic="rebuild",
        room_alias_name=f"{ann.user_id[1:4]}{version}",
        invite=[bob.user_id],
    )
    bob.room(room_id, "join")
    ann.room(room_id, "invite", user_id=cat.user_id)
    cat.ok("POST", f"/join/{quote(f'#{ann.user_id[1:4]}{version}:localhost', safe='')}", {})
    said = [(ann if number % 2 else bob).say(room_id, f"{number} \U0001f600") for number in range(6)]
    ann.redact(room_id, said[0])
    bob.ok("POST", f"/rooms/{quote(room_id)}/receipt/m.read/{quote(said[-1])}", {})
    return room_id


def _changes(ann: Client, bob: Client, cat: Client, room_id: str) -> None:
    ann.set_state(room_id, "m.room.topic", {"topic": "changed"})
    ann.set_state(room_id, "org.example.thing", {"n": 2**53 - 1}, state_key="k\u0000ey")
    levels = next(event for event in ann.state(room_id) if event["type"] == "m.room.power_levels")["content"]
    ann.set_state(room_id, "m.room.power_levels", {**levels, "users_default": 0, "events_default": 0})
    # A retry under the same transaction id is one event; a refused one is none.
    assert bob.say(room_id, "once", txn="retry") == bob.say(room_id, "once", txn="retry")
    _refused(bob, "PUT", f"/rooms/{quote(room_id)}/state/m.room.power_levels/", {"users": {bob.user_id: 100}})
    ann.room(room_id, "kick", user_id=cat.user_id, reason="out")
    ann.room(room_id, "invite", user_id=cat.user_id)
    cat.room(room_id, "join")
    ann.room(room_id, "ban", user_id=cat.user_id)
    _refused(cat, "POST", f"/rooms/{quote(room_id)}/join", {})
    cat.room(room_id, "forget")
    bob.ok("PUT", f"/profile/{quote(bob.user_id)}/displayname", {"displayname": f"Bob {room_id[-4:]}"})
    tag = f"/user/{quote(bob.user_id)}/rooms/{quote(room_id)}/account_data/m.tag"
    bob.ok("PUT", tag, {"tags": {"m.favourite": {}}})
    for client in (ann, bob):
        last = client.say(room_id, "later")
        client.ok("POST", f"/rooms/{quote(room_id)}/receipt/m.read/{quote(last)}", {})


def _refused(client: Client, method: str, path: str, body: Any) -> None:
    status, answer = client.call(method, path, body)
    assert status == 403, (path, status, answer)


def _forks(ann: Client, bob: Client, room_id: str) -> None:
    """Two processes build on the same head at once."""
    together = threading.Barrier(2)

    def talk(client: Client) -> None:
        for number in range(FORKS):
            together.wait()
            client.say(room_id, f"at once {number}", patient=True)

    threads = [threading.Thread(target=talk, args=(client,)) for client in (ann, bob)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _direct(ann: Client, bob: Client) -> None:
    room_id = bob.create_room(preset="trusted_private_chat", is_direct=True, invite=[ann.user_id])
    ann.room(room_id, "leave")
    bob.say(room_id, "alone")
    bob.room(room_id, "leave")
    bob.room(room_id, "forget")
