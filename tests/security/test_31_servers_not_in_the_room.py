"""Rows 21, 30, 31, 32: what servers may not read, and that asking tells them nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from annals.matrix.hashing import event_id as id_of
from tests.support.federation_fixtures import closed_room, logged, member, said
from tests.support.room_weaver import ALICE, CAROL, DAVE, Weaver, plain_room, woven
from tests.support.rooms import fetched
from tests.support.signed_requests import BASE, FederationApp, path
from tests.support.sync_world import World

NEVER = "$" + "A" * 43


def _targets(room_id: str, event_id: str) -> Iterator[str]:
    """Every read of a room that is a GET."""
    for what in ("state", "state_ids"):
        yield f"{BASE}{path(what, room_id)}?event_id={event_id}"
    yield BASE + path("event_auth", room_id, event_id)
    yield f"{BASE}{path('backfill', room_id)}?v={event_id}&limit=5"
    yield f"{BASE}{path('timestamp_to_event', room_id)}?ts=0&dir=f"


def _gap(*latest: str, **more: Any) -> dict[str, Any]:
    return {"latest_events": list(latest), "earliest_events": [], **more}


def _ids(weaver: Weaver, pdus: list[dict[str, Any]]) -> set[str]:
    return {id_of(pdu, weaver.rules) for pdu in pdus}


def test_a_server_that_is_not_in_the_room_reads_nothing(world: World, asked: FederationApp) -> None:
    weaver = logged(world, plain_room("12"))
    known = weaver.events[-1].event_id
    refusals = set()
    for room_id in (weaver.room_id, "!none:nowhere"):
        for event_id in (known, NEVER):
            refusals |= {asked.raw("stranger", target) for target in _targets(room_id, event_id)}
            status, answer = asked.post("stranger", path("get_missing_events", room_id), _gap(event_id))
            assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")
    # One refusal for all of them: nobody learns which rooms and events there are.
    [(status, body)] = refusals
    assert status == 403
    assert b"M_FORBIDDEN" in body
    assert asked.raw("stranger", BASE + path("event", known)) == (status, body)


def test_an_event_of_another_room_is_like_one_that_never_was(world: World, asked: FederationApp) -> None:
    own, secret = logged(world, plain_room("12")), logged(world, woven(1, "10", 4))
    # The peer is in both rooms, or in its own only: that makes no difference.
    for foreign in (secret.events[-1].event_id, secret.events[0].event_id):
        for with_never, with_foreign in zip(_targets(own.room_id, NEVER), _targets(own.room_id, foreign), strict=True):
            assert asked.raw("peer", with_never) == asked.raw("peer", with_foreign), with_foreign
        room = path("get_missing_events", own.room_id)
        assert asked.post("peer", room, _gap(foreign)) == asked.post("peer", room, _gap(NEVER)) == (200, {"events": []})
        mixed = asked.get(
            "peer", path("backfill", own.room_id), [("v", foreign), ("v", own.events[0].event_id)], limit=9
        )
        assert _ids(own, mixed[1]["pdus"]) == {own.events[0].event_id}
    statuses = [asked.raw("peer", target)[0] for target in _targets(own.room_id, NEVER)]
    assert statuses == [404, 404, 404, 200, 200]


def test_a_denied_server_reads_nothing_though_its_users_are_in_the_room(world: World, asked: FederationApp) -> None:
    weaver = plain_room("12")
    said(weaver, CAROL, "hello")
    weaver.add(("m.room.server_acl", ALICE, "", {"allow": ["*"], "deny": ["PEER"]}))
    known = logged(world, weaver).events[-2].event_id
    for target in (*_targets(weaver.room_id, known), BASE + path("event", known)):
        assert asked.raw("peer", target)[0] == 403, target
    assert asked.post("peer", path("get_missing_events", weaver.room_id), _gap(known))[0] == 403


def test_a_server_that_left_reads_what_was_before_and_nothing_after(world: World, asked: FederationApp) -> None:
    weaver = plain_room("12")
    during = said(weaver, CAROL, "while carol was here")
    left = member(weaver, CAROL, "leave")
    after = said(weaver, ALICE, "behind her back")
    topic = weaver.add(("m.room.topic", ALICE, "", {"topic": "her"})).event_id
    logged(world, weaver)
    for event_id in (after, topic):
        for target in (*_targets(weaver.room_id, event_id), BASE + path("event", event_id)):
            assert asked.raw("peer", target)[0] == 403, target
        assert asked.post("peer", path("get_missing_events", weaver.room_id), _gap(event_id))[0] == 403
    for event_id in (during, left):
        assert asked.get("peer", path("event", event_id))[0] == 200
        assert asked.get("peer", path("state_ids", weaver.room_id), event_id=event_id)[0] == 200
    mixed = asked.get("peer", path("backfill", weaver.room_id), [("v", during), ("v", topic)], limit=5)
    assert mixed[0] == 403
    _, answer = asked.get("peer", path("backfill", weaver.room_id), v=left, limit=100)
    assert after not in _ids(weaver, answer["pdus"])
    assert during in _ids(weaver, answer["pdus"])


def test_limits_are_capped(world: World, asked: FederationApp) -> None:
    weaver = plain_room("12")
    with world.at_once():
        for number in range(120):
            said(weaver, CAROL, str(number))
        logged(world, weaver)
    last = weaver.events[-1].event_id
    room = path("get_missing_events", weaver.room_id)
    for limit in (2**31, 2**70):
        status, answer = asked.post("peer", room, _gap(last, limit=limit, min_depth=0))
        assert (status, len(answer["events"])) == (200, 50)
    for limit in (0, -5):
        assert asked.post("peer", room, _gap(last, limit=limit)) == (200, {"events": []})
    assert asked.post("peer", room, _gap(last, limit=5, min_depth=2**70)) == (200, {"events": []})
    status, answer = asked.get("peer", path("backfill", weaver.room_id), v=last, limit=2**31)
    assert (status, len(answer["pdus"])) == (200, 100)


def test_an_outlier_is_no_part_of_the_timeline(world: World, asked: FederationApp) -> None:
    weaver = logged(world, plain_room("12"))
    head = weaver.events[-1].event_id
    outlier = weaver.build(("m.room.member", DAVE, DAVE, {"membership": "join"}))
    message = weaver.build(("m.room.message", CAROL, None, {"body": "from nowhere"}))
    world.put(fetched(outlier, "auth"), fetched(message, "auth"))
    # State may be asked for by its id, as others cite it; a message that stands nowhere may not.
    assert asked.get("peer", path("event", outlier.event_id))[0] == 200
    assert asked.raw("peer", BASE + path("event", message.event_id)) == asked.raw("peer", BASE + path("event", NEVER))
    for event_id in (outlier.event_id, message.event_id):
        for what in ("state", "state_ids"):
            assert asked.get("peer", path(what, weaver.room_id), event_id=event_id)[0] == 404
        _, answer = asked.post("peer", path("get_missing_events", weaver.room_id), _gap(event_id, head, limit=50))
        assert event_id not in _ids(weaver, answer["events"])
    _, answer = asked.get("peer", path("timestamp_to_event", weaver.room_id), ts=10**9, dir="b")
    assert answer["event_id"] not in (outlier.event_id, message.event_id)


SETTINGS = ("world_readable", "shared", "invited", "joined")


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("before", ["join", "invite", "nothing"])
def test_what_a_server_may_not_see_is_given_redacted(
    world: World, asked: FederationApp, setting: str, before: str
) -> None:
    weaver = plain_room("12")
    weaver.add(("m.room.history_visibility", ALICE, "", {"history_visibility": setting}))
    if before == "join":
        member(weaver, DAVE, "join")
    elif before == "invite":
        member(weaver, DAVE, "invite", ALICE)
    secret = said(weaver, ALICE, "secret")
    own = member(weaver, DAVE, "join")
    last = said(weaver, ALICE, "for all who are here")
    logged(world, weaver)
    visible = setting in ("world_readable", "shared") or before == "join" or (setting, before) == ("invited", "invite")
    room = weaver.room_id
    answers = [
        asked.get("other", path("event", secret))[1]["pdus"],
        asked.get("other", path("backfill", room), v=last, limit=100)[1]["pdus"],
        asked.post("other", path("get_missing_events", room), _gap(last, limit=50))[1]["events"],
    ]
    for pdus in answers:
        found = {id_of(pdu, weaver.rules): pdu for pdu in pdus}
        assert ("body" in found[secret]["content"]) is visible
        assert found[secret]["hashes"] == weaver.oracle.events[secret].pdu["hashes"]
    found = {id_of(pdu, weaver.rules): pdu for pdu in answers[1]}
    assert found[last]["content"]["body"] == "for all who are here"
    assert found[own]["content"] == {"membership": "join"}
    _, answer = asked.get("other", path("timestamp_to_event", room), ts=0, dir="f")
    nearest = weaver.oracle.events[answer["event_id"]]
    assert nearest.type != "m.room.message"


def test_a_closed_room_shows_its_newcomers_no_earlier_message(world: World, asked: FederationApp) -> None:
    weaver = closed_room()
    early = [said(weaver, ALICE, str(number)) for number in range(5)]
    member(weaver, DAVE, "join")
    logged(world, weaver)
    times = {weaver.oracle.events[event_id].origin_server_ts for event_id in early}
    _, answer = asked.get("other", path("timestamp_to_event", weaver.room_id), ts=min(times), dir="f")
    assert answer["event_id"] not in early
    _, answer = asked.get("peer", path("timestamp_to_event", weaver.room_id), ts=min(times), dir="f")
    assert answer["event_id"] in early
