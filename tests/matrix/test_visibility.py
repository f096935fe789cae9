"""History visibility: every setting, membership and later join."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.events import Event, event_of
from annals.matrix.room_versions import V12
from annals.matrix.visibility import HistoryVisibility, may_see, visibility_of

ME, OTHER = "@me:a", "@other:b"


def event(event_type: str = "m.room.message", state_key: str | None = None, **content: Any) -> Event:
    pdu: dict[str, Any] = {"type": event_type, "sender": OTHER, "room_id": "!r", "content": content, "depth": 1}
    pdu |= {"prev_events": [], "auth_events": [], "origin_server_ts": 1}
    return event_of(pdu if state_key is None else {**pdu, "state_key": state_key}, V12, "$e")


# visibility, then what is seen by membership at the event; + also without, j only with a later join, - never
CASES = """
                   join  invite  knock  leave  ban  none
    world_readable +     +       +      +      +    +
    shared         +     j       j      j      j    j
    invited        +     +       -      -      -    -
    joined         +     -       -      -      -    -
"""
HEAD, *LINES = [line.split() for line in CASES.strip().splitlines()]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
@pytest.mark.parametrize("joined_later", [False, True])
def test_settings_and_memberships(line: list[str], joined_later: bool) -> None:
    visibility = HistoryVisibility(line[0])
    for membership, answer in zip(HEAD, line[1:], strict=True):
        seen = may_see(
            event(),
            ME,
            visibility=visibility,
            membership=None if membership == "none" else membership,
            joined_later=joined_later,
        )
        assert seen == (answer == "+" or (answer == "j" and joined_later)), membership


@pytest.mark.parametrize("value", [None, "", "Shared", 1, ["joined"], {}])
def test_what_is_not_understood_is_shared(value: object) -> None:
    assert visibility_of(event("m.room.history_visibility", "", history_visibility=value)) == "shared"
    assert visibility_of(None) == visibility_of(event("m.room.history_visibility", "")) == "shared"


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        ("world_readable", "joined", True),
        ("joined", "world_readable", True),
        ("joined", "joined", False),
        ("joined", "invited", False),
    ],
)
def test_a_change_of_the_setting_is_seen_under_either(before: str, after: str, seen: bool) -> None:
    def answer(changed: Event) -> bool:
        return may_see(changed, ME, visibility=HistoryVisibility(before), membership=None, joined_later=False)

    assert answer(event("m.room.history_visibility", "", history_visibility=after)) is seen
    # Another state key sets nothing.
    aside = event("m.room.history_visibility", "x", history_visibility=after)
    assert answer(aside) is (before == "world_readable")


@pytest.mark.parametrize(
    ("visibility", "before", "after", "seen"),
    [
        ("joined", None, "join", True),
        ("joined", "invite", "join", True),
        ("joined", "join", "leave", True),
        ("joined", "join", "ban", True),
        ("joined", None, "invite", False),
        ("invited", None, "invite", True),
        ("joined", "invite", "leave", True),
        ("joined", "knock", "ban", True),
        ("joined", "leave", "ban", False),
        ("joined", "ban", "leave", False),
        ("joined", None, "knock", False),
        ("joined", None, 1, False),
    ],
)
def test_ones_own_membership_is_seen_before_or_after(
    visibility: str, before: str | None, after: Any, seen: bool
) -> None:
    setting = HistoryVisibility(visibility)
    own = event("m.room.member", ME, membership=after)
    assert may_see(own, ME, visibility=setting, membership=before, joined_later=False) is seen
    # Somebody else's is an event like any other.
    others = event("m.room.member", OTHER, membership=after)
    plain = may_see(event(), ME, visibility=setting, membership=before, joined_later=False)
    assert may_see(others, ME, visibility=setting, membership=before, joined_later=False) is plain
