"""Users do things by chance while clients sync as they please: what clients then have is what the server has.

The machine's own tables in memory say who may see what, and which state holds: nothing of the queries is used for that.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from annals.matrix.events import Event
from annals.matrix.visibility import HistoryVisibility, may_see
from annals.projectors.rooms.fold import event_in
from tests.support.rooms import Driver, user
from tests.support.soak import is_soak
from tests.support.sync_client import SyncClient
from tests.support.sync_world import World

USERS = ("alice", "bob", "carol")
STEPS, STEPS_IN_SOAK = 25, 60
ROOMS = 2
_MEMBER = "m.room.member"
_VISIBILITY = ("m.room.history_visibility", "")


class Walk:
    """One walk. `forks`: whether other servers' events come on heads of before."""

    def __init__(self, world: World, rng: random.Random, forks: bool) -> None:
        self.world = world
        self.rng = rng
        self.forks = forks
        self.rooms = [world.room(rng.choice(["10", "11", "12"])) for _ in range(ROOMS)]
        self.clients = [SyncClient(world, name, exact=exact, lazy=False) for name in USERS for exact in (False, True)]
        self.clients += [SyncClient(world, name, exact=True, lazy=True) for name in USERS]
        self.number = 0

    def act(self) -> None:
        """Something happens in a room."""
        room, name = self.rng.choice(self.rooms), self.rng.choice(USERS)
        self.number += 1
        kinds: list[tuple[int, Callable[[], Any]]] = [
            (6, lambda: self.world.say(room, name, str(self.number))),
            (4, lambda: self.world.member(room, name, self.rng.choice(["join", "join", "leave"]))),
            (2, lambda: self.world.send(room, name, "org.state", {"n": self.number}, f"k{self.number % 2}")),
            (1, lambda: self.world.member(room, "alice", self.rng.choice(["ban", "leave", "invite"]), "bob")),
            (1, lambda: self._visibility(room)),
            (1, lambda: self._redact(room, name)),
            (2 if self.forks else 0, lambda: self._fork(room)),
            (2 if self.forks else 0, lambda: self._contest(room)),
        ]
        self.rng.choices([do for _, do in kinds], [weight for weight, _ in kinds])[0]()

    def _visibility(self, room: Driver) -> None:
        setting = self.rng.choice(sorted(HistoryVisibility)).value
        self.world.send(room, "alice", _VISIBILITY[0], {"history_visibility": setting}, "")

    def _redact(self, room: Driver, name: str) -> None:
        target = self.rng.choice(list(room.tables.events))
        self.world.send(room, name, "m.room.redaction", {"redacts": target})

    def _fork(self, room: Driver) -> None:
        """Events on one head, by several users; one of them may come late."""
        events = []
        for _ in range(self.rng.randint(2, 3)):
            room.offset += 1
            name = self.rng.choice(USERS)
            if self.rng.random() < 0.5:
                events.append(self.world.build(room, name, "org.state", {"f": room.offset}, f"k{room.offset % 2}"))
            elif self.rng.random() < 0.3:
                events.append(self.world.build(room, name, _MEMBER, {"membership": "leave"}, user(name)))
            else:
                events.append(self.world.build(room, name, "m.room.message", {"body": f"fork {room.offset}"}))
        room.offset -= len(events)
        late = events.pop()
        self.world.fork(room, *events)
        # Meanwhile the room grows: the late one stands low in the order of depth.
        for _ in range(self.rng.randint(0, 3)):
            self.world.say(room, "alice", f"meanwhile {room.offset}")
        self.world.fork(room, late)

    def _contest(self, room: Driver) -> None:
        """What decides over memberships comes late: by then others' events were built on another state."""
        late = [self._ruling(room) for _ in range(self.rng.randint(1, 2))]
        for _ in range(self.rng.randint(1, 4)):
            self.world.fork(room, self._ruling(room))
            if self.rng.random() < 0.5:
                self.sync()
        self.world.fork(room, *late)

    def _ruling(self, room: Driver) -> Event:
        """An event on the head that moves somebody in or out, or says who may."""
        room.offset += 1
        event_type, sender, state_key, content = self.rng.choice(
            [
                ("m.room.power_levels", "alice", "", self._powers(room)),
                ("m.room.join_rules", "alice", "", {"join_rule": self.rng.choice(["public", "invite"])}),
                (_MEMBER, self.rng.choice(["alice", "carol"]), user("bob"), self._membership("ban", "leave", "invite")),
                (_MEMBER, "bob", user("bob"), self._membership("join", "join", "leave")),
                (_MEMBER, "carol", user("carol"), self._membership("join", "join", "leave")),
            ]
        )
        event = self.world.build(room, sender, event_type, content, state_key)
        room.offset -= 1
        return event

    def _membership(self, *kinds: str) -> dict[str, Any]:
        return {"membership": self.rng.choice(kinds)}

    def _powers(self, room: Driver) -> dict[str, Any]:
        """Carol may decide over bob, or may not."""
        powers = content_of(room, room.tables.current["m.room.power_levels", ""])
        users = {name: level for name, level in powers["users"].items() if name != user("carol")}
        return powers | {"users": users | ({user("carol"): 50} if self.rng.random() < 0.6 else {})}

    def sync(self) -> None:
        """Some of the clients sync, and have what is theirs."""
        for client in self.clients:
            if self.rng.random() < 0.4:
                client.sync(self.rng, self.rng.choice([0, 1, 2, 5, 20]))
                self.check(client)

    def check(self, client: SyncClient) -> None:
        """What the client has of each room is what it may have."""
        for room in self.rooms:
            visible = visible_events(room, user(client.name))
            ours = set(room.tables.events)
            assert client.ever_seen & ours <= visible, f"{client.name} was shown too much"
            known = client.rooms.get(room.room_id)
            is_in = membership_of(room, user(client.name)) == "join"
            assert (known is not None) == is_in
            if known is not None:
                assert set(known.seen) == visible
                # A /sync has no words for an entry that fell away: "state" and "state_after" list events.
                gone = fallen(room)
                state = {key: event_id for key, event_id in known.state.items() if key not in gone}
                if client.lazy:
                    assert state.items() <= room.tables.current.items()
                    others = {key for key in room.tables.current if key[0] != _MEMBER}
                    assert {key for key in state if key[0] != _MEMBER} == others
                    assert {(_MEMBER, sender) for sender in known.senders} - gone <= state.keys()
                elif client.exact or not self.forks:
                    assert state == room.tables.current


def content_of(room: Driver, event_id: str | None) -> dict[str, Any]:
    return event_in(room.tables.events[event_id]["fact"]).content if event_id else {}


def membership_of(room: Driver, user_id: str) -> str | None:
    return content_of(room, room.tables.current.get((_MEMBER, user_id))).get("membership")


def fallen(room: Driver) -> set[tuple[str, str]]:
    """Entries of the current state that were, and are no more."""
    changes = [change for decisions in room.decided for d in decisions for change in getattr(d, "current_delta", ())]
    return {(change.type, change.state_key) for change in changes} - room.tables.current.keys()


def in_until(room: Driver, user_id: str) -> int:
    """Stream position at which the current state last had the user in the room."""
    last, inside = -1, False
    for decision in (decision for decisions in room.decided for decision in decisions):
        for change in getattr(decision, "current_delta", ()):
            if (change.type, change.state_key) == (_MEMBER, user_id):
                last = decision.position if inside else last
                inside = content_of(room, change.event_id).get("membership") == "join"
    return 1 << 62 if inside else last


def visible_events(room: Driver, user_id: str) -> set[str]:
    """What the user may see of the room's timeline, by the rules alone; what became of themselves is always told."""
    seen = set()
    until = in_until(room, user_id)
    for event_id, row in room.tables.events.items():
        verdict, event = row["verdict"], event_in(row["fact"])
        if verdict.verdict != "accepted" or verdict.outlier:
            continue
        before = room.tables.state_map(verdict.state_before)
        setting = content_of(room, before.get(_VISIBILITY)).get("history_visibility", "shared")
        if (event.type == _MEMBER and event.state_key == user_id) or may_see(
            event,
            user_id,
            visibility=HistoryVisibility(setting),
            membership=content_of(room, before.get((_MEMBER, user_id))).get("membership"),
            joined_later=verdict.position < until,
        ):
            seen.add(event_id)
    return seen


@pytest.mark.parametrize("forks", [False, True])
def test_clients_have_what_the_server_has(
    world: World, rng: random.Random, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config, forks: bool
) -> None:
    # Both ways to find the rooms that moved: how much is new to a token lies now below this, now above.
    monkeypatch.setattr("annals.queries.sync.rooms._RECORDS_FEW", 4)
    walk = Walk(world, rng, forks)
    for _ in range(STEPS_IN_SOAK if is_soak(pytestconfig) else STEPS):
        walk.act()
        walk.sync()
    for client in walk.clients:
        client.sync(rng, 3)
        walk.check(client)
