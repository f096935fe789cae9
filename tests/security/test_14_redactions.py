"""Row 14: redactions that name each other come to an end, and one without power redacts nothing."""

from __future__ import annotations

from itertools import permutations

import pytest

from annals.matrix.events import Event, parse_event
from tests.support.room_weaver import ALICE, BOB, CAROL, Weaver, driver_of, plain_room
from tests.support.rooms import received

both = pytest.mark.parametrize("cold", [False, True])


def _redaction(weaver: Weaver, sender: str, event_id: str, redacts: str) -> Event:
    """In rooms of version 1 senders choose the ids of their events, so that these can be known beforehand."""
    made = weaver.build(("m.room.redaction", sender, None, {"redacts": redacts}))
    return parse_event({**made.pdu, "event_id": event_id, "redacts": redacts}, weaver.rules)


@both
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_ring_of_redactions(order: tuple[int, ...], cold: bool) -> None:
    weaver = plain_room("1")
    names = ["$one:test", "$two:test", "$three:test"]
    ring = [_redaction(weaver, ALICE, name, names[(at + 1) % 3]) for at, name in enumerate(names)]
    driver = driver_of(weaver, cold=cold)
    driver.feed(*(received(ring[at]) for at in order))
    assert [driver.verdict(name) for name in names] == ["accepted"] * 3
    by = {name: driver.tables.events[name]["redacted_by"] for name in names}
    # Each was permitted, and takes effect, by itself redacted or not: the outcome is the same in every order.
    assert by == {"$two:test": "$one:test", "$three:test": "$two:test", "$one:test": "$three:test"}
    assert not any(driver.tables.pending_redactions.values()), "nothing is waited for"


@both
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_of_itself_and_one_without_power(order: tuple[int, ...], cold: bool) -> None:
    weaver = plain_room("1")
    own = _redaction(weaver, ALICE, "$own:test", "$own:test")
    # Each of another server than what it names: only power would do, and Carol has none.
    pair = [
        _redaction(weaver, CAROL, "$hers:peer", "$his:test"),
        _redaction(weaver, BOB, "$his:test", "$hers:peer"),
    ]
    driver = driver_of(weaver, cold=cold)
    driver.feed(received(own), *(received(pair[at]) for at in order))
    assert driver.verdict("$own:test") == driver.verdict("$his:test") == "accepted"
    assert driver.verdict("$hers:peer") == "rejected"
    assert [driver.tables.events[name]["redacted_by"] for name in ("$own:test", "$his:test")] == [None, None]
