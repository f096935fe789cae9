"""What /sync shows of rooms, on real tables: comings and goings, forks, what was parked, what moved."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.events import Event
from annals.rooms.heads import Intent
from tests.support.rooms import Driver, received, user
from tests.support.sync_world import World, ids

VERSIONS = ["10", "11", "12"]


def joined(answer: Any, room: Driver) -> Any:
    return answer["rooms"]["join"][room.room_id]


def topic_of(section: Any) -> list[str]:
    return [e["content"]["topic"] for e in section["events"] if e["type"] == "m.room.topic"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_first_sync_and_the_next(world: World, version: str) -> None:
    room = world.room(version)
    answer = world.sync("alice")
    shown = joined(answer, room)
    assert [e["type"] for e in shown["timeline"]["events"]][:2] == ["m.room.create", "m.room.member"]
    assert not shown["timeline"]["limited"]
    assert shown["state"]["events"] == []
    assert shown["summary"] == {"m.joined_member_count": 1, "m.invited_member_count": 0, "m.heroes": []}
    assert [e["type"] for e in answer["account_data"]["events"]] == ["m.push_rules"]
    said = world.say(room, "alice")
    after = world.sync("alice", answer["next_batch"])
    assert ids(joined(after, room)["timeline"]) == [said.event_id]
    nothing = world.sync("alice", after["next_batch"])
    assert nothing["empty"]
    assert "rooms" not in nothing


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_limited_timeline_goes_on_in_messages(world: World, limit: int) -> None:
    room = world.room()
    since = world.sync("alice")["next_batch"]
    said = [world.say(room, "alice", str(n)).event_id for n in range(5)]
    shown = joined(world.sync("alice", since, limit=limit), room)
    assert shown["timeline"]["limited"]
    assert ids(shown["timeline"]) == said[5 - limit :]
    before = world.page_back("alice", room, shown["timeline"]["prev_batch"], since, limit=2)
    assert ids(before) == said[: 5 - limit][::-1]


def test_prev_batch_of_a_room_that_fits_pages_to_nothing(world: World) -> None:
    room = world.room()
    shown = joined(world.sync("alice", limit=100), room)
    assert not shown["timeline"]["limited"]
    page = world.messages("alice", room, from_token=shown["timeline"]["prev_batch"])
    assert page["chunk"] == []
    assert "end" not in page
    # What is said later stands behind that place, too.
    world.say(room, "alice")
    assert world.messages("alice", room, from_token=shown["timeline"]["prev_batch"])["chunk"] == []


def test_the_tokens_of_a_sync_are_places_for_messages(world: World) -> None:
    room = world.room()
    first = world.sync("alice")["next_batch"]
    said = [world.say(room, "alice", str(n)).event_id for n in range(3)]
    second = world.sync("alice", first)["next_batch"]
    later = world.say(room, "alice").event_id
    assert ids(world.page_back("alice", room, second, first)) == said[::-1]
    forwards = world.messages("alice", room, backwards=False, from_token=first)["chunk"]
    assert ids(forwards) == [*said, later]
    bounded = world.messages("alice", room, backwards=False, from_token=first, to_token=second)["chunk"]
    assert ids(bounded) == said


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_after_a_fork_a_gap_is_filled_without_repeat_or_skip(world: World, limit: int) -> None:
    room = world.room()
    shown = world.sync("alice", limit=100)
    # A branch that grows long beside one event of another server's, which then stands low in the order of depth.
    late = world.build(room, "alice", "m.room.message", {"body": "late"})
    said = [world.say(room, "alice", str(n)).event_id for n in range(6)]
    world.fork(room, late)
    said.append(late.event_id)
    said.append(world.say(room, "alice", "after").event_id)
    timeline = joined(world.sync("alice", shown["next_batch"], limit=limit), room)["timeline"]
    filled = world.page_back("alice", room, timeline["prev_batch"], shown["next_batch"], limit=2)
    assert sorted([*ids(filled), *ids(timeline)]) == sorted(said)


def fork_of_topics(world: World, room: Driver) -> tuple[Event, Event]:
    """Two topics on the same head; both are shown, one of them holds."""
    one = world.build(room, "alice", "m.room.topic", {"topic": "one"}, "")
    room.offset += 1
    two = world.build(room, "alice", "m.room.topic", {"topic": "two"}, "")
    room.offset -= 1
    return one, two


def topic_held(room: Driver) -> str:
    return room.tables.current["m.room.topic", ""]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("swapped", [False, True])
def test_after_a_fork_the_state_is_not_older_than_what_was_shown(world: World, version: str, swapped: bool) -> None:
    room = world.room(version)
    world.send(room, "alice", "m.room.topic", {"topic": "old"}, "")
    first = world.sync("alice", limit=50)
    late = world.build(room, "alice", "m.room.message", {"body": "late"})
    one, two = fork_of_topics(world, room)
    world.fork(room, *((two, one) if swapped else (one, two)))
    second = world.sync("alice", first["next_batch"], limit=50)
    # An event from before the topics, on a branch that knows of neither, comes after both.
    world.fork(room, late)
    for number in range(3):
        world.say(room, "alice", str(number))
    for limit in (0, 1, 2, 20):
        third = joined(world.sync("alice", second["next_batch"], limit=limit), room)
        assert topic_of(third["state"]) == []
        exact = joined(world.sync("alice", first["next_batch"], limit=limit, use_state_after=True), room)
        assert [i for i in ids(exact["state_after"]) if i in (one.event_id, two.event_id)] == [topic_held(room)]


def test_the_state_of_a_first_sync_is_the_one_that_holds_after_every_restart(world: World) -> None:
    room = world.room()
    one, two = fork_of_topics(world, room)
    world.fork(room, one, two)
    for number in range(3):
        world.say(room, "alice", str(number))
    first = joined(world.sync("alice", limit=1), room)["state"]["events"]
    topics = [e["event_id"] for e in first if e["type"] == "m.room.topic"]
    assert topics == [topic_held(room)]
    assert len({(e["type"], e["state_key"]) for e in first}) == len(first)
    world.loop.close()
    world.loop.take()
    world.loop.catch_up()
    assert joined(world.sync("alice", limit=1), room)["state"]["events"] == first


def test_what_was_parked_reaches_a_token_that_lies_between(world: World) -> None:
    room = world.room()
    parent = world.build(room, "alice", "m.room.message", {"body": "parent"})
    scratch = _beside(room)
    scratch.feed(received(parent))
    rules = room.view.known_header().rules
    assert rules
    child = scratch.build(Intent(user("alice"), "m.room.message", {"body": "child"}), rules)
    world.feed(room, received(child))
    between = world.sync("alice")
    assert child.event_id not in ids(joined(between, room)["timeline"])
    world.say(room, "alice", "meanwhile")
    between_later = world.sync("alice", between["next_batch"])
    world.feed(room, received(parent))
    shown = ids(joined(world.sync("alice", between_later["next_batch"]), room)["timeline"])
    assert shown == [parent.event_id, child.event_id]
    assert not set(shown) & set(ids(joined(between_later, room)["timeline"]))


def _beside(room: Driver) -> Driver:
    """A machine that knows the room as it is now, and goes its own way."""
    scratch = Driver(room.room_id)
    scratch.feed(*room.tables.facts.values())
    return scratch


def test_left_and_banned_later_reads_nothing_in_between(world: World) -> None:
    room = world.room()
    world.member(room, "bob", "join")
    since = world.sync("bob")["next_batch"]
    heard = world.say(room, "alice", "heard").event_id
    left = world.member(room, "bob", "leave").event_id
    between = world.sync("bob", since)["next_batch"]
    world.say(room, "alice", "secret")
    world.send(room, "alice", "m.room.topic", {"topic": "secret"}, "")
    banned = world.member(room, "alice", "ban", "bob").event_id
    world.say(room, "alice", "secret too")
    for after in (False, True):
        answer = world.sync("bob", since, use_state_after=after)
        section = answer["rooms"]["leave"][room.room_id]
        assert ids(section["timeline"]) == [heard, left, banned]
        assert "secret" not in str(answer)
        later = world.sync("bob", between, use_state_after=after)
        assert ids(later["rooms"]["leave"][room.room_id]["timeline"]) == [banned]
        assert "secret" not in str(later)
        if after:
            # Their own membership is as the timeline left it.
            assert ids(section["state_after"]) == [banned]
    # Nor by paging on from there.
    for answer in (world.sync("bob", since), world.sync("bob", between), world.sync("bob", include_leave=True)):
        start = answer["rooms"]["leave"][room.room_id]["timeline"]["prev_batch"]
        assert "secret" not in str(world.page_back("bob", room, start, None))


def test_who_comes_back_sees_the_gap_that_is_open_to_them(world: World) -> None:
    room = world.room()
    world.member(room, "bob", "join")
    since = world.sync("bob")["next_batch"]
    expected = [
        world.member(room, "bob", "leave"),
        world.say(room, "alice", "meanwhile"),
        world.send(room, "alice", "m.room.topic", {"topic": "meanwhile"}, ""),
        world.member(room, "bob", "join"),
    ]
    shown = joined(world.sync("bob", since), room)
    assert ids(shown["timeline"]) == [e.event_id for e in expected]


def test_a_hidden_change_of_the_state_is_told_behind_it(world: World) -> None:
    room = world.room()
    world.send(room, "alice", "m.room.history_visibility", {"history_visibility": "joined"}, "")
    world.member(room, "bob", "join")
    since = world.sync("bob")["next_batch"]
    world.say(room, "alice", "heard")
    world.member(room, "bob", "leave")
    world.say(room, "alice", "secret")
    hidden = world.send(room, "alice", "m.room.topic", {"topic": "told"}, "").event_id
    back = world.member(room, "bob", "join").event_id
    shown = joined(world.sync("bob", since), room)
    assert shown["timeline"]["limited"]
    assert ids(shown["timeline"]) == [back]
    assert hidden in ids(shown["state"])
    paged = world.page_back("bob", room, shown["timeline"]["prev_batch"], since)
    assert [e["content"].get("body", e["type"]) for e in paged] == ["m.room.member", "heard"]


def test_new_rooms_are_told_whole_and_limited(world: World) -> None:
    room = world.room()
    for number in range(3):
        world.say(room, "alice", str(number))
    since = world.sync("bob")["next_batch"]
    world.member(room, "bob", "join")
    shown = joined(world.sync("bob", since, limit=2), room)
    assert shown["timeline"]["limited"]
    assert len(shown["timeline"]["events"]) == 2
    assert {e["type"] for e in shown["state"]["events"]} >= {"m.room.create", "m.room.power_levels"}
    assert shown["summary"]["m.joined_member_count"] == 2
    assert shown["summary"]["m.heroes"] == [user("alice")]


def test_an_invite_and_its_end(world: World) -> None:
    room = world.room()
    since = world.sync("bob")["next_batch"]
    world.send(room, "alice", "m.room.name", {"name": "Club"}, "")
    world.member(room, "alice", "invite", "bob")
    invited = world.sync("bob", since)
    events = invited["rooms"]["invite"][room.room_id]["invite_state"]["events"]
    assert {"type": "m.room.name", "state_key": "", "sender": user("alice"), "content": {"name": "Club"}} in events
    assert {(e["type"], e["state_key"]) for e in events} >= {("m.room.member", user("bob")), ("m.room.create", "")}
    assert all(set(e) == {"type", "state_key", "sender", "content"} for e in events)
    refused = world.member(room, "bob", "leave").event_id
    ended = world.sync("bob", invited["next_batch"])
    section = ended["rooms"]["leave"][room.room_id]
    assert ids(section["timeline"])[-1] == refused
    assert "m.room.name" not in str(section)


def test_who_is_invited_is_not_shown_what_was_redacted(world: World) -> None:
    room = world.room()
    topic = world.send(room, "alice", "m.room.topic", {"topic": "secret"}, "")
    rule = world.send(room, "alice", "m.room.join_rules", {"join_rule": "invite", "reason": "secret"}, "")
    for event in (topic, rule):
        world.send(room, "alice", "m.room.redaction", {"redacts": event.event_id})
    world.member(room, "alice", "invite", "bob")
    shown = world.sync("bob")["rooms"]["invite"][room.room_id]["invite_state"]["events"]
    contents = {event["type"]: event["content"] for event in shown}
    assert contents["m.room.topic"] == {}
    assert contents["m.room.join_rules"] == {"join_rule": "invite"}


def test_redacted_levels_let_nobody_call_the_whole_room(world: World) -> None:
    room = world.room("11")
    for name in ("bob", "carol"):
        world.member(room, name, "join")
    power = {"users": {user("alice"): 100}, "notifications": {"room": 0}}
    levels = world.send(room, "alice", "m.room.power_levels", power, "")
    since = world.sync("bob")["next_batch"]

    def highlights() -> int:
        return int(joined(world.sync("bob", since), room)["unread_notifications"]["highlight_count"])

    world.send(room, "carol", "m.room.message", {"body": "all of you", "m.mentions": {"room": True}})
    assert highlights() == 1
    world.send(room, "alice", "m.room.redaction", {"redacts": levels.event_id})
    assert highlights() == 0


def test_full_state_repeats_no_timeline(world: World) -> None:
    room = world.room()
    since = world.sync("alice")["next_batch"]
    said = world.say(room, "alice").event_id
    shown = joined(world.sync("alice", since, full_state=True), room)
    assert ids(shown["timeline"]) == [said]
    assert not shown["timeline"]["limited"]
    assert {e["type"] for e in shown["state"]["events"]} >= {"m.room.create", "m.room.member"}


def test_members_are_loaded_with_their_messages(world: World) -> None:
    room = world.room()
    for name in ("bob", "carol"):
        world.member(room, name, "join")
    world.say(room, "bob")
    shown = joined(world.sync("alice", limit=1, lazy=True), room)
    members = [e["state_key"] for e in shown["state"]["events"] if e["type"] == "m.room.member"]
    assert sorted(members) == [user("alice"), user("bob")]
    everybody = joined(world.sync("alice", limit=1), room)["state"]["events"]
    assert len([e for e in everybody if e["type"] == "m.room.member"]) == 3


def test_unread_counts_and_previous_contents_stay_after_a_restart(world: World) -> None:
    room = world.room()
    world.member(room, "bob", "join")
    world.send(room, "alice", "m.room.topic", {"topic": "one"}, "")
    changed = world.send(room, "alice", "m.room.topic", {"topic": "two"}, "").event_id
    seen = world.say(room, "alice", "read")
    world.say(room, "alice", "unread")
    world.say(room, "alice", f"{user('bob')}: you")
    before = world.sync("bob")
    world.read(room, "bob", seen)
    after = world.sync("bob", before["next_batch"])
    assert joined(after, room)["unread_notifications"]["notification_count"] == 2
    assert joined(before, room)["unread_notifications"]["notification_count"] == 3
    whole = world.sync("bob", limit=50)
    world.loop.close()
    world.loop.take()
    world.loop.catch_up()
    assert world.sync("bob", limit=50) == whole
    events = {e["event_id"]: e for e in joined(whole, room)["timeline"]["events"]}
    assert events[changed]["unsigned"]["prev_content"] == {"topic": "one"}


def test_receipts_are_told_once_and_private_ones_to_their_user(world: World) -> None:
    room = world.room()
    world.member(room, "bob", "join")
    said = world.say(room, "alice")
    since = {name: world.sync(name)["next_batch"] for name in ("alice", "bob")}
    world.read(room, "bob", said, "m.read.private")
    assert world.sync("alice", since["alice"])["empty"]
    world.read(room, "bob", said)
    told = world.sync("alice", since["alice"])
    (receipt,) = joined(told, room)["ephemeral"]["events"]
    assert list(receipt["content"][said.event_id]) == ["m.read"]
    own = joined(world.sync("bob", since["bob"]), room)
    assert set(own["ephemeral"]["events"][0]["content"][said.event_id]) == {"m.read", "m.read.private"}
    assert own["unread_notifications"] == {"notification_count": 0, "highlight_count": 0}
    assert world.sync("alice", told["next_batch"])["empty"]


def test_a_filter_leaves_out_rooms_types_and_senders(world: World) -> None:
    room, other = world.room(), world.room()
    world.member(room, "bob", "join")
    said = world.say(room, "bob").event_id
    world.say(room, "alice")
    definition = {
        "room": {
            "rooms": [room.room_id],
            "timeline": {"types": ["m.room.mess*"], "not_senders": [user("alice")]},
            "state": {"types": ["m.room.create"]},
        },
        "account_data": {"not_types": ["*"]},
    }
    answer = world.sync("bob", definition=definition)
    assert list(answer["rooms"]["join"]) == [room.room_id]
    assert ids(joined(answer, room)["timeline"]) == [said]
    assert [e["type"] for e in joined(answer, room)["state"]["events"]] == ["m.room.create"]
    assert "account_data" not in answer
    assert other.room_id not in str(world.sync("alice", definition=definition))


def test_a_redacted_event_is_shown_without_its_content(world: World) -> None:
    room = world.room()
    since = world.sync("alice")["next_batch"]
    said = world.say(room, "alice", "secret").event_id
    redaction = world.send(room, "alice", "m.room.redaction", {"redacts": said, "reason": "oops"}).event_id
    shown = joined(world.sync("alice", since), room)["timeline"]["events"]
    assert ids(shown) == [said, redaction]
    assert shown[0]["content"] == {}
    assert shown[0]["unsigned"]["redacted_because"]["event_id"] == redaction


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("limit", [0, 1, 10])
def test_whose_member_event_falls_away_is_told_to_have_left(
    world: World, monkeypatch: pytest.MonkeyPatch, few: bool, limit: int
) -> None:
    monkeypatch.setattr("annals.queries.sync.rooms._RECORDS_FEW", 1_000 if few else -1)
    room = world.room()
    # Alice closed the room before she heard that bob came in: state resolution has no place for his join.
    closing = world.build(room, "alice", "m.room.join_rules", {"join_rule": "invite"}, "")
    world.member(room, "bob", "join")
    said = world.say(room, "alice")
    since = world.sync("bob")["next_batch"]
    world.fork(room, closing)
    assert ("m.room.member", user("bob")) not in room.tables.current
    answer = world.sync("bob", since, limit=limit, lazy=True)
    assert set(answer["rooms"]) == {"leave"}
    section = answer["rooms"]["leave"][room.room_id]
    # What was said while he was in it is still his to read.
    earlier = ids(world.page_back("bob", room, section["timeline"]["prev_batch"], None))
    assert said.event_id in earlier
    world.say(room, "alice", "behind his back")
    assert world.sync("bob", answer["next_batch"])["empty"]
    # He hears of it once, and of nothing if he begins anew.
    assert "rooms" not in world.sync("bob")
    assert earlier == ids(world.page_back("bob", room, section["timeline"]["prev_batch"], None))


def test_a_membership_that_an_older_event_takes_back_is_told(world: World) -> None:
    room = world.room()
    world.member(room, "bob", "join")
    world.member(room, "bob", "leave")
    closing = world.build(room, "alice", "m.room.join_rules", {"join_rule": "invite"}, "")
    world.member(room, "bob", "join")
    since = world.sync("bob")["next_batch"]
    world.fork(room, closing)
    section = world.sync("bob", since, use_state_after=True)["rooms"]["leave"][room.room_id]
    own = [e for e in section["state_after"]["events"] if e["type"] == "m.room.member"]
    assert [(e["state_key"], e["content"]["membership"]) for e in own] == [(user("bob"), "leave")]


def test_who_is_put_out_and_invited_again_is_shown_the_invite(world: World) -> None:
    room = world.room()
    world.member(room, "bob", "join")
    since = world.sync("bob")["next_batch"]
    world.member(room, "alice", "leave", "bob")
    world.member(room, "alice", "invite", "bob")
    answer = world.sync("bob", since)
    assert set(answer["rooms"]) == {"invite"}
    # He comes in as into a new room.
    world.member(room, "bob", "join")
    shown = joined(world.sync("bob", answer["next_batch"], limit=2), room)
    assert shown["timeline"]["limited"]
    assert {e["type"] for e in shown["state"]["events"]} >= {"m.room.create", "m.room.power_levels"}


def test_who_is_in_a_shared_room_sees_what_was_made_beside_their_join(world: World) -> None:
    room = world.room()
    # A room that was not always open: each event is judged.
    for setting in ("joined", "shared"):
        world.send(room, "alice", "m.room.history_visibility", {"history_visibility": setting}, "")
    late = world.build(room, "alice", "m.room.message", {"body": "said without knowing of bob"})
    later = world.build(room, "alice", "m.room.message", {"body": "as late as can be"})
    world.member(room, "bob", "join")
    since = world.sync("bob")["next_batch"]
    world.fork(room, late)
    assert ids(joined(world.sync("bob", since), room)["timeline"]) == [late.event_id]
    # Once shown it stays his to read, and what comes when he has gone is not.
    world.member(room, "bob", "leave")
    world.fork(room, later)
    paged = ids(world.page_back("bob", room, world.sync("bob", since)["next_batch"], since))
    assert late.event_id in paged
    assert later.event_id not in paged
    assert world.sync("bob", since, limit=1)["rooms"]["leave"][room.room_id]["timeline"]["limited"]
