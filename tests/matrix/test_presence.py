"""What a presence update says, from whoever it is."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.presence import ONLINE, STATUS_MSG_MAX, Presence, pushed

NOW_MS = 1_000_000


def update(**fields: Any) -> dict[str, Any]:
    return {"user_id": "@a:b", "presence": "online", "last_active_ago": 10, **fields}


def test_an_update_is_what_was_told() -> None:
    told = Presence(ONLINE, "hello", NOW_MS - 10, currently_active=True)
    entry = told.update("@a:b", NOW_MS)
    assert entry == update(status_msg="hello", currently_active=True)
    assert pushed(entry, NOW_MS) == told
    assert Presence("offline").update("@a:b", NOW_MS) == {
        "user_id": "@a:b",
        "presence": "offline",
        "last_active_ago": 0,
    }


@pytest.mark.parametrize("state", ["busy", "", None, 1, [], {}])
def test_no_such_state(state: Any) -> None:
    assert pushed(update(presence=state), NOW_MS) is None


@pytest.mark.parametrize("ago", [None, -1, 1.5, "1", True, 2**60, []])
def test_a_bad_time_is_no_time(ago: Any) -> None:
    assert pushed(update(last_active_ago=ago), NOW_MS) == Presence(ONLINE)


def test_what_else_may_be_odd() -> None:
    assert pushed(update(status_msg=5, currently_active="yes"), NOW_MS) == Presence(ONLINE, None, NOW_MS - 10)
    long = pushed(update(status_msg="x" * 5_000), NOW_MS)
    assert long is not None
    assert len(long.status_msg or "") == STATUS_MSG_MAX
    old = pushed(update(last_active_ago=NOW_MS * 2), NOW_MS)
    assert old is not None
    assert old.last_active_ms == 0
    away = pushed(update(presence="unavailable", currently_active=True), NOW_MS)
    assert away is not None
    assert not away.currently_active
