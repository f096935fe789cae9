"""The fixture `asked`: the app over the rooms of `world`, asked by other servers; and what rooms they read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.room_weaver import MEMBER, Weaver, plain_room
from tests.support.rooms import received
from tests.support.signed_requests import FederationApp, federation_app
from tests.support.sync_world import World

VISIBILITY = "m.room.history_visibility"


@pytest.fixture
def asked(world: World) -> Iterator[FederationApp]:
    """The app, asked by servers."""
    with federation_app(world.database) as app:
        yield app


def logged(world: World, weaver: Weaver, first: int = 0) -> Weaver:
    """The room's events, from one on, as other servers pushed them."""
    world.put(*map(received, weaver.events[first:]))
    return weaver


def said(weaver: Weaver, sender: str, body: str) -> str:
    """A message in the room; its id."""
    return weaver.add(("m.room.message", sender, None, {"body": body, "msgtype": "m.text"})).event_id


def member(weaver: Weaver, user: str, membership: str, sender: str | None = None) -> str:
    """A change of membership; its event id."""
    return weaver.add((MEMBER, sender or user, user, {"membership": membership})).event_id


def closed_room(version: str = "12") -> Weaver:
    """The plain room (alice and bob here, carol of `peer`), whose history its members see from their joining on."""
    weaver = plain_room(version)
    weaver.add((VISIBILITY, "@alice:test", "", {"history_visibility": "joined"}))
    return weaver
