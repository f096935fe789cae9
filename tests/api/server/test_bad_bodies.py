"""Whatever a server hands in as a member event, it is answered by the specification, and the rooms go on as before."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import event as noted
from hypothesis import given, settings
from hypothesis import strategies as st

from annals.matrix.errors import MatrixError
from annals.matrix.hashing import event_id
from annals.matrix.room_versions import ROOM_VERSIONS
from tests.api.server.test_third_party_exchange import invited_by_mail, partial
from tests.support import handing_in
from tests.support.pdu_strategies import any_values, contents, texts
from tests.support.remote_server import RemoteServer
from tests.support.room_elsewhere import RoomElsewhere
from tests.support.server import LiveServer, quoted
from tests.support.spoiling import Spoilt, lies

_NOT_SPOILT = Spoilt(())
_MEMBERSHIPS = ("v2/send_join", "v1/send_join", "v2/send_leave", "v1/send_leave", "v1/send_knock")
_ENDPOINTS = (*_MEMBERSHIPS, "v2/invite", "v1/invite")
_EXCHANGE = "v1/exchange_third_party_invite"
_numbers = itertools.count(1)
#: For each endpoint. By the profile: 12, or in a soak 500.
EXAMPLES = settings().max_examples // 2


class Scene:
    """Rooms of ours and of an evil server, and a good event for each endpoint."""

    def __init__(self, server: LiveServer) -> None:
        self.server, self.alice, self.carol = server, server.user("alice"), server.user("carol")
        self.evil, self.good = RemoteServer(server), RemoteServer(server)
        self.room_id = self.alice.create_room(preset="public_chat", room_version="10")
        knocked = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
        self.knocked = self.alice.create_room(initial_state=[knocked])
        self.by_mail = invited_by_mail(self.alice)
        self.elsewhere = {"v1/invite": RoomElsewhere(self.evil, "1"), "v2/invite": RoomElsewhere(self.evil, "12")}

    def event(self, endpoint: str) -> tuple[str, dict[str, Any]]:
        """A room version, and an event of the evil server that this endpoint takes."""
        if endpoint in self.elsewhere:
            room = self.elsewhere[endpoint]
            return room.version, room.invitation(self.carol.id, reason=str(next(_numbers))).pdu
        kind = endpoint.rpartition("_")[2]
        room_id, user_id = self.knocked if kind == "knock" else self.room_id, self.evil.user("mallory")
        if kind == "leave":
            handing_in.join(self.evil, room_id, user_id)
        status, template = handing_in.make(self.evil, kind, room_id, user_id)
        assert status == 200, template
        return template["room_version"], handing_in.signed(self.evil, template).pdu

    def put(self, endpoint: str, segments: list[Any], body: Any) -> None:
        """Hand it in; anything but an answer of the specification fails."""
        path = "/".join(quoted(segment) if type(segment) is str and segment else "x" for segment in segments)
        try:
            response = self.evil.request("PUT", f"/_matrix/federation/{endpoint}/{path}", body)
        except MatrixError:
            # It is no canonical JSON: nobody can sign it.
            return
        noted(f"{endpoint} {response.status_code}")
        # 503: what it follows, or the key of who must have signed it, cannot be had now.
        assert response.status_code in (200, 400, 403, 404, 413, 503), response.text
        if response.status_code != 200:
            assert response.json()["errcode"].startswith("M_")

    def check(self) -> None:
        """All is well, all the same: others join, our users speak and are invited."""
        bob = self.good.user("bob")
        handing_in.join(self.good, self.room_id, bob)
        text = f"good {next(_numbers)}"
        self.good.push(*self.good.chain(self.room_id, bob, [text]))
        self.alice.say(self.room_id, text)
        room = RoomElsewhere(self.good)
        status, answer = room.hand_in(room.invitation(self.carol.id))
        assert status == 200, answer
        assert room.room_id in self.carol.sync()["rooms"]["invite"]


@pytest.fixture(scope="module")
def scene(embedded_live_server: LiveServer) -> Scene:
    """On one log only: what is refused never gets to it."""
    return Scene(embedded_live_server)


def _event_id(pdu: Any, version: str) -> Any:
    try:
        return event_id(pdu, ROOM_VERSIONS[version])
    except (MatrixError, TypeError, KeyError, AttributeError, ValueError):
        return "$" + "A" * 43


def _afterwards(scene: Scene, test: Callable[[], None]) -> None:
    test()
    scene.check()


def test_any_json(scene: Scene) -> None:
    @settings(max_examples=EXAMPLES)
    @given(st.sampled_from([*_ENDPOINTS, _EXCHANGE]), st.data(), st.dictionaries(texts, any_values, max_size=4))
    def any_json(endpoint: str, data: st.DataObject, body: dict[str, Any]) -> None:
        rooms = st.sampled_from([scene.room_id, scene.knocked, scene.by_mail, "!x", "\0", "!" + "é" * 200])
        segments = [data.draw(rooms)] + [data.draw(texts | st.just("$" + "A" * 43))] * (endpoint != _EXCHANGE)
        scene.put(endpoint, segments, body)

    _afterwards(scene, any_json)


@pytest.mark.parametrize("endpoint", _ENDPOINTS)
def test_any_change_of_an_event(scene: Scene, endpoint: str) -> None:
    version, good = scene.event(endpoint)

    @settings(max_examples=EXAMPLES)
    @given(lies, contents(), st.booleans(), lies | st.just(_NOT_SPOILT))
    def any_change(lie: Spoilt, content: dict[str, Any], is_signed: bool, of_body: Spoilt) -> None:
        pdu = lie.of(good)
        if type(pdu) is dict and is_signed:
            # What is signed well gets further: contents with more than anybody asked for, too.
            kept = pdu.get("content")
            pdu = scene.evil.signed({**pdu, "content": {**content, **kept} if type(kept) is dict else kept}, version)
        body, its_id = pdu, _event_id(pdu, version)
        if endpoint == "v2/invite":
            shown = scene.elsewhere[endpoint].shown()
            body = of_body.of({"event": pdu, "room_version": version, "invite_room_state": shown})
        elif endpoint == "v1/invite" and type(pdu) is dict:
            body = {**pdu, "unsigned": of_body.of({"invite_room_state": scene.elsewhere[endpoint].shown()})}
        scene.put(endpoint, [good["room_id"], its_id], body)

    _afterwards(scene, any_change)


def test_any_change_of_an_invite_by_mail(scene: Scene) -> None:
    good = partial(scene.alice, scene.by_mail, scene.carol.id)

    @settings(max_examples=EXAMPLES)
    @given(lies)
    def any_change(lie: Spoilt) -> None:
        scene.put(_EXCHANGE, [scene.by_mail], lie.of(good))

    _afterwards(scene, any_change)
