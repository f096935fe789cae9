"""What stories over two servers ask again and again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.federation.homeserver import Homeserver
from tests.support.matrix_client import Client, quote
from tests.support.soak import versions
from tests.support.waiting import until

#: `make test` tells each story in these room versions, in all other ones a few.
ALWAYS = ("10", "12")


def told(*, since: int = 1) -> pytest.MarkDecorator:
    """Parametrizes a story, with the fixture `sides` (made here and joined there, and the reverse), by room version."""
    return pytest.mark.parametrize("version", versions(*ALWAYS, since=since))


@dataclass(frozen=True, slots=True)
class Sides:
    """Where a story's room is made, and where those come from who join it."""

    here: Homeserver
    there: Homeserver


def joins(person: Client, room: str, via: Homeserver) -> None:
    """Join a room (id or alias) through a server."""
    person.ok("POST", f"/join/{quote(room)}", {}, {"server_name": via.name, "via": via.name})


def sees(person: Client, room_id: str, event_id: str) -> Callable[[], bool]:
    """Whether somebody can read an event."""
    return lambda: person.call("GET", f"/rooms/{quote(room_id)}/event/{quote(event_id)}")[0] == 200


def waits_to_see(person: Client, room_id: str, *event_ids: str) -> None:
    """Until somebody can read all of these."""
    for event_id in event_ids:
        until(sees(person, room_id, event_id), f"{person.user_id} sees {event_id}")


def membership(person: Client, room_id: str, user_id: str) -> str | None:
    """A user's membership as somebody sees it."""
    status, content = person.call("GET", f"/rooms/{quote(room_id)}/state/m.room.member/{quote(user_id)}")
    return content.get("membership") if status == 200 else None


def state_ids(person: Client, room_id: str) -> dict[tuple[str, str], str]:
    """The room's current state: event ids by key."""
    return {(event["type"], event["state_key"]): event["event_id"] for event in person.state(room_id)}


def same_state(one: Client, other: Client, room_id: str) -> None:
    """Until both see the same state of the room."""
    differing: dict[str, Any] = {}

    def equal() -> bool:
        ours, theirs = state_ids(one, room_id), state_ids(other, room_id)
        differing.update(ours=ours, theirs=theirs)
        return ours == theirs

    try:
        until(equal, "the same state")
    except AssertionError:
        ours, theirs = differing["ours"], differing["theirs"]
        keys = [key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)]
        raise AssertionError({key: (ours.get(key), theirs.get(key)) for key in keys}) from None


def body_of(person: Client, room_id: str, event_id: str) -> str | None:
    """The text of a message as somebody sees it; None where it has none (any more)."""
    status, event = person.call("GET", f"/rooms/{quote(room_id)}/event/{quote(event_id)}")
    return event["content"].get("body") if status == 200 else None


def until_membership(person: Client, room_id: str, of: Client, wanted: str) -> None:
    """Until somebody sees another one's membership."""
    what = f"{person.user_id} sees {wanted} of {of.user_id}"
    until(lambda: membership(person, room_id, of.user_id) == wanted, what)


def in_section(person: Client, section: str, room_id: str) -> dict[str, Any] | None:
    """A room in a section (join, invite, knock, leave) of somebody's initial sync."""
    rooms = person.sync(timeout=0, filter='{"room": {"include_leave": true}}').get("rooms", {})
    found: dict[str, Any] | None = rooms.get(section, {}).get(room_id)
    return found


def shared_room(sides: Sides, version: str) -> tuple[Client, Client, str]:
    """Somebody here, somebody from there, and a public room that the one made and the other joined."""
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    room_id = ann.create_room(preset="public_chat", room_version=version)
    joins(bob, room_id, sides.here)
    until_membership(ann, room_id, bob, "join")
    return ann, bob, room_id


def upgraded(person: Client, room_id: str, version: str) -> str:
    """Replace a room by one of another version; its id."""
    return str(person.ok("POST", f"/rooms/{quote(room_id)}/upgrade", {"new_version": version})["replacement_room"])


def process_of(server: Homeserver, role: str) -> int:
    """The process of a role of a server of ours, found below the server's own."""
    for pid in Path(f"/proc/{server.group()}/task/{server.group()}/children").read_text().split():
        # Some child may end meanwhile.
        with suppress(OSError):
            if role in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                return int(pid)
    raise AssertionError(f"no process {role}")
