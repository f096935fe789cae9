"""Which part of a timeline belongs to whom: stays, and single changes of one's own membership after them."""

from __future__ import annotations

import pytest

from annals.queries.stays import END, Transition
from annals.queries.sync.rooms import SyncRoom, Window, membership_before


def room(membership: str, since: int, *transitions: tuple[int, str | None], fresh: bool = False) -> SyncRoom:
    changed = any(position >= since for position, _ in transitions)
    own = tuple(Transition(*transition) for transition in transitions)
    return SyncRoom("!r", membership, since, fresh=fresh, whole=fresh, changed=changed, transitions=own)


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (room("join", 50, (10, "join")), [Window(50)]),
        (room("join", 0, (10, "join"), fresh=True), [Window(0)]),
        (room("join", 5, (10, "join"), fresh=True), [Window(0)]),
        # Left and came back since the token: one stretch, in which history visibility decides.
        (room("join", 50, (10, "join"), (60, "leave"), (70, "join")), [Window(50)]),
        (room("leave", 50, (10, "join"), (60, "leave")), [Window(50, 61)]),
        # The member event fell away, and later what was told of an invite.
        (room("leave", 50, (10, "join"), (60, None)), [Window(50, 61)]),
        (room("leave", 62, (10, "join"), (60, None), (70, "invite"), (80, None)), [Window(70, 71), Window(80, 81)]),
        # Banned later: nothing in between.
        (room("ban", 50, (10, "join"), (60, "leave"), (90, "ban")), [Window(50, 61), Window(90, 91)]),
        (room("ban", 70, (10, "join"), (60, "leave"), (90, "ban")), [Window(90, 91)]),
        # Came and left since the token.
        (room("leave", 5, (10, "join"), (60, "leave"), fresh=True), [Window(0, 61)]),
        # Never in it: an invite that was refused.
        (room("leave", 5, (10, "invite"), (60, "leave")), [Window(10, 11), Window(60, 61)]),
        (room("leave", 70, (10, "join"), (60, "leave")), []),
    ],
)
def test_windows(of: SyncRoom, expected: list[Window]) -> None:
    assert list(of.windows()) == expected


def test_where_the_stay_ends() -> None:
    assert room("join", 0, (10, "join")).stay_end == END
    assert room("leave", 0, (10, "invite"), (20, "leave")).stay_end == 0
    assert room("ban", 0, (10, "join"), (20, "ban"), (30, "leave")).stay_end == 21
    assert room("leave", 0, (10, "join"), (20, None)).stay_end == 21


def test_membership_before() -> None:
    transitions = (Transition(10, "join"), Transition(20, "leave"))
    assert membership_before(transitions, 10) is None
    assert membership_before(transitions, 11) == "join"
    assert membership_before(transitions, 99) == "leave"
