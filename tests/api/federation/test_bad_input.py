"""Whatever a server signs and sends, it is answered with an error of the specification, never with a 500."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.support.federation_fixtures import logged
from tests.support.pdu_strategies import strict_values
from tests.support.room_weaver import CAROL, plain_room
from tests.support.signed_requests import BASE, FederationApp, federation_app
from tests.support.sync_world import World

_ROOM = plain_room("12")
_KNOWN = [_ROOM.room_id, _ROOM.events[-1].event_id, _ROOM.events[0].event_id, CAROL, "@alice:test", "#a:test"]
_ODD = ["\0", "%", "/", "..", "ü", "\u2028", "'", '"', "\\", "$", "!", "-1", "0", "1", "f", "b", "9" * 30, "x" * 3_000]
_TEXT = st.one_of(st.sampled_from(_KNOWN), st.sampled_from(_ODD), st.text(max_size=6))
_GETS = ["event/{}", "state/{}", "state_ids/{}", "event_auth/{}/{}", "backfill/{}", "timestamp_to_event/{}"]
_GETS += ["hierarchy/{}", "publicRooms", "query/profile", "query/directory", "query/{}", "user/devices/{}"]
_NAMES = ["event_id", "v", "limit", "ts", "dir", "suggested_only", "since", "user_id", "field", "room_alias"]
_IDS = st.lists(st.one_of(st.sampled_from(_KNOWN), strict_values), max_size=4)
_BODIES = {
    f"get_missing_events/{quote(_ROOM.room_id)}": {
        "latest_events": _IDS,
        "earliest_events": _IDS,
        "limit": strict_values,
        "min_depth": strict_values,
    },
    "user/keys/query": {"device_keys": st.dictionaries(_TEXT, _IDS, max_size=3)},
    "user/keys/claim": {"one_time_keys": st.dictionaries(_TEXT, strict_values, max_size=3)},
    "publicRooms": {
        "limit": strict_values,
        "since": strict_values,
        "filter": st.fixed_dictionaries({}, optional={"generic_search_term": strict_values, "room_types": _IDS}),
    },
}


@pytest.fixture
def room_app(world: World) -> Iterator[FederationApp]:
    """The app over a room that the peer is in."""
    logged(world, _ROOM)
    with federation_app(world.database) as app:
        yield app


def _signed(ask: Callable[[], tuple[int, Any]]) -> None:
    status, answer = ask()
    event(str(status))
    assert status in (200, 400, 403, 404), answer
    if status != 200:
        assert answer["errcode"].startswith("M_")
    json.dumps(answer)


@given(
    path=st.sampled_from(_GETS),
    parts=st.tuples(_TEXT, _TEXT),
    query=st.lists(st.tuples(st.sampled_from(_NAMES), _TEXT), max_size=4),
)
def test_any_get(room_app: FederationApp, path: str, parts: tuple[str, str], query: list[tuple[str, str]]) -> None:
    segments = [quote(part, safe="") or "x" for part in parts]
    _signed(lambda: room_app.get("peer", "/" + path.format(*segments), query))


@given(data=st.data(), path=st.sampled_from(sorted(_BODIES)))
def test_any_body(room_app: FederationApp, data: st.DataObject, path: str) -> None:
    shaped = st.fixed_dictionaries({}, optional=_BODIES[path])
    content = data.draw(st.one_of(shaped, st.dictionaries(st.text(max_size=4), strict_values, max_size=3)))
    _signed(lambda: room_app.ask("peer", "POST", f"{BASE}/{path}", content))
