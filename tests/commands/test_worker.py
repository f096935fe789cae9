"""Commands over several keys are carried on after a kill, in order, once a step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from concurrent import futures
from typing import Any

import pytest

from annals.commands import worker as worker_module
from annals.commands.errors import Refused, TryAgain
from annals.commands.profile_fan_out import ProfileFanOut
from annals.commands.profiles import FAN_OUT, ROOMS_PER_COMMAND
from annals.commands.worker import ATTEMPTS_MAX, Started, Step, Worker
from annals.database.leases import DURATION_MS, OpsLease
from annals.database.rows import Rows
from annals.schemas.facts.users import CommandStarted
from tests.support import room_rows
from tests.support.accounts_house import SERVER, House
from tests.support.patience import PATIENCE_S

ALICE = f"@alice:{SERVER}"
BOB = f"@bob:{SERVER}"
ROOMS = ["!a:x", "!b/x", "!c:x"]


class Rooms:
    """A builder of rooms: it remembers outcomes by key, and shows what it accepts in the tables."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.keys: set[str] = set()
        self.fails: Callable[[str], BaseException | None] = lambda room_id: None

    async def show_member(self, room_id: str, user_id: str, content: dict[str, Any], idempotency_key: str) -> None:
        assert user_id == ALICE
        if (error := self.fails(room_id)) is not None:
            raise error
        if idempotency_key in self.keys:
            return
        self.keys.add(idempotency_key)
        self.sent.append((room_id, content))
        rows = Rows()
        room_rows.state(rows, room_id, "m.room.member", user_id, content, user_id)
        self.house.put_rows(rows)


@pytest.fixture
def rooms(house: House) -> Rooms:
    """Three rooms that Alice is in, and one that she left."""
    house.register("alice")
    rows = Rows()
    for room_id in ROOMS:
        room_rows.room(rows, room_id, ALICE)
        room_rows.member(rows, room_id, ALICE)
    room_rows.member(rows, "!left:x", ALICE, "leave")
    house.put_rows(rows)
    return Rooms(house)


def worker_of(house: House, rooms: Rooms, owner: str = "one", kinds: dict[str, Any] | None = None) -> Worker:
    """A worker, as a process has one."""
    lease = OpsLease(house.database, "commands", owner, house.clock)
    return Worker(house.appender, house.database, kinds or {FAN_OUT: ProfileFanOut(house.database, rooms)}, lease)


def run(house: House, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """In the loop that the house lives in."""
    portal = house.client.portal
    assert portal is not None

    async def awaited() -> Any:
        return await coroutine

    return portal.call(awaited)


def states(house: House) -> list[tuple[str, str | None]]:
    """State and reason of all commands, in order."""
    return house.database.read_now(lambda s: s.rows("SELECT state, reason FROM commands ORDER BY user_id, source"))


def set_name(house: House, name: str) -> None:
    """Change Alice's display name by the API."""
    path = f"/_matrix/client/v3/profile/{ALICE}/displayname"
    assert house.call("PUT", path, {"displayname": name}, house.token) == (200, {})


def test_a_name_reaches_every_room_that_its_user_is_in(house: House, rooms: Rooms) -> None:
    set_name(house, "Alice")
    assert rooms.sent == []
    assert run(house, worker_of(house, rooms).run_pass()) is True
    assert sorted(rooms.sent) == [(room_id, {"membership": "join", "displayname": "Alice"}) for room_id in ROOMS]
    assert states(house) == [("done", None)]
    # A second pass has nothing to do, and neither has a change that changes nothing.
    set_name(house, "Alice")
    run(house, worker_of(house, rooms).run_pass())
    assert len(rooms.sent) == 3
    assert states(house) == [("done", None)] * 2


def test_a_name_answered_200_reaches_all_rooms_though_the_process_dies(house: House, rooms: Rooms) -> None:
    set_name(house, "Alice")
    rooms.fails = lambda room_id: asyncio.CancelledError() if room_id == ROOMS[1] else None
    with pytest.raises((asyncio.CancelledError, futures.CancelledError)):
        run(house, worker_of(house, rooms).run_pass())
    assert len(rooms.sent) < 3
    assert states(house) == [("started", None)]
    # Another process takes over once the lease is free.
    rooms.fails = lambda room_id: None
    heir = worker_of(house, rooms, "two")
    assert run(house, heir.run_pass()) is True
    assert len(rooms.sent) < 3
    house.times.now_ms += 31_000
    assert run(house, heir.run_pass()) is True
    assert sorted(room_id for room_id, _ in rooms.sent) == ROOMS
    assert states(house) == [("done", None)]


def test_a_room_that_stands_still_keeps_its_command_for_later(house: House, rooms: Rooms) -> None:
    set_name(house, "first")
    set_name(house, "second")
    rooms.fails = lambda room_id: TryAgain("halted") if room_id == ROOMS[0] else None
    worker = worker_of(house, rooms)
    assert run(house, worker.run_pass()) is False
    assert {room_id for room_id, _ in rooms.sent} == set(ROOMS[1:])
    assert states(house) == [("started", None)] * 2
    rooms.fails = lambda room_id: None
    assert run(house, worker.run_pass()) is True
    # The newest name, in every room; not the older one after it.
    last = dict(rooms.sent)
    assert last == {room_id: {"membership": "join", "displayname": "second"} for room_id in ROOMS}
    assert states(house) == [("done", None)] * 2


def test_a_refused_step_is_done_and_says_so(house: House, rooms: Rooms) -> None:
    set_name(house, "Alice")
    rooms.fails = lambda room_id: Refused(403, "M_FORBIDDEN", "no") if room_id == ROOMS[0] else None
    assert run(house, worker_of(house, rooms).run_pass()) is True
    assert states(house) == [("done", "1 steps were refused")]


def test_who_left_meanwhile_is_not_brought_back(house: House, rooms: Rooms) -> None:
    set_name(house, "Alice")
    rows = Rows()
    room_rows.member(rows, ROOMS[0], ALICE, "leave")
    room_rows.member(rows, ROOMS[1], ALICE, "ban")
    house.put_rows(rows)
    run(house, worker_of(house, rooms).run_pass())
    assert [room_id for room_id, _ in rooms.sent] == [ROOMS[2]]


def test_a_user_of_many_rooms_gets_several_commands(house: House, rooms: Rooms) -> None:
    rows = Rows()
    count = ROOMS_PER_COMMAND + 10
    for number in range(count):
        room_rows.member(rows, f"!{number:043d}", ALICE)
    house.put_rows(rows)
    set_name(house, "Alice")
    assert states(house) == [("started", None)] * 2
    plans = house.database.read_now(lambda s: s.rows("SELECT plan FROM commands"))
    assert sorted(len(json.loads(bytes(plan)[1:])["rooms"]) for (plan,) in plans) == [13, ROOMS_PER_COMMAND]
    assert all(len(bytes(plan)) < 60_000 for (plan,) in plans)


class Broken:
    """A kind whose commands never work."""

    grace_s = 0.0

    async def steps(self, command: Started) -> Sequence[Step]:
        raise ValueError(f"bad plan {command.plan}")


def test_a_command_that_never_works_is_given_up(house: House, rooms: Rooms) -> None:
    fact = CommandStarted(house.appender.envelope(), ALICE, "bad", "broken", b"{}")
    run(house, house.appender.submit_and_settle([fact]))
    set_name(house, "Alice")
    kinds = {"broken": Broken(), FAN_OUT: ProfileFanOut(house.database, rooms)}
    worker = worker_of(house, rooms, kinds=kinds)
    for _ in range(ATTEMPTS_MAX - 1):
        assert run(house, worker.run_pass()) is False
    assert rooms.sent == []
    assert run(house, worker.run_pass()) is True
    assert states(house) == [("failed", "ValueError: bad plan {}"), ("done", None)]


def test_a_kind_of_a_newer_version_is_left_alone(house: House, rooms: Rooms) -> None:
    fact = CommandStarted(house.appender.envelope(), ALICE, "new", "newer", b"{}")
    run(house, house.appender.submit_and_settle([fact]))
    set_name(house, "Alice")
    assert run(house, worker_of(house, rooms).run_pass()) is True
    assert states(house) == [("started", None), ("done", None)]


def test_one_process_works_at_a_time(house: House, rooms: Rooms) -> None:
    first, second = (OpsLease(house.database, "x", owner, house.clock) for owner in ("one", "two"))
    assert run(house, first.held())
    assert not run(house, second.held())
    house.times.now_ms += DURATION_MS * 2 // 3
    assert run(house, first.held())  # renewed
    house.times.now_ms += DURATION_MS * 2 // 3
    assert not run(house, second.held())
    run(house, first.release())
    assert run(house, second.held())


def test_waking_starts_a_pass(house: House, rooms: Rooms) -> None:
    worker = worker_of(house, rooms)

    async def scenario() -> None:
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(0.1)
        await house.services.profiles.set_field(ALICE, "displayname", "Alice")
        worker.wake()
        for _ in range(int(PATIENCE_S / 0.05)):
            if len(rooms.sent) == 3:
                break
            await asyncio.sleep(0.05)
        task.cancel()

    run(house, scenario())
    assert len(rooms.sent) == 3


def test_who_stands_by_takes_over_unasked(house: House, rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker was killed: its lease runs out, and nothing moves that would wake anybody."""
    monkeypatch.setattr(worker_module, "STANDBY_S", 0.05)
    assert run(house, OpsLease(house.database, "commands", "killed", house.clock).held())
    worker = worker_of(house, rooms, "second")

    async def scenario() -> None:
        await house.services.profiles.set_field(ALICE, "displayname", "Alice")
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(0.2)
        assert not rooms.sent
        house.times.now_ms += DURATION_MS
        for _ in range(int(PATIENCE_S / 0.05)):
            if len(rooms.sent) == 3:
                break
            await asyncio.sleep(0.05)
        task.cancel()

    run(house, scenario())
    assert len(rooms.sent) == 3
