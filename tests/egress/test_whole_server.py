"""A whole server that sends to another one, is killed, rebuilt and switched: nothing is lost, nothing is sent anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from annals.server.operator_access import opened_tables
from tests.support.crashes import kill_role, wait_ready
from tests.support.federation.annals import PEERS_PATIENCE_S
from tests.support.limits import with_limits
from tests.support.matrix_client import Client, register
from tests.support.operators import REASON, annals, rows, serving
from tests.support.recording_peer import RecordingPeer
from tests.support.scripted_peer import make_authority
from tests.support.servers import Serve
from tests.support.waiting import until

NAME = "localhost"


@dataclass
class Meeting:
    """Our server, the other one, and a room of ann's that a user of the other one is in. `said`: in order."""

    serve: Serve
    peer: RecordingPeer
    ann: Client
    room_id: str
    said: list[str]

    def say(self, body: str) -> str:
        self.said.append(self.ann.say(self.room_id, body, patient=True))
        return self.said[-1]

    def wait(self) -> None:
        """Until the other server has all."""
        until(lambda: set(self.said) <= set(self.peer.event_ids()), "the other server has it")

    def got(self) -> list[str]:
        """What the other server got, each once, in order of the first time."""
        return list(dict.fromkeys(self.peer.event_ids()))


@pytest.fixture(scope="module")
def meeting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meeting]:
    folder: Path = tmp_path_factory.mktemp("egress")
    authority = make_authority(folder / "authority")
    environment = {
        "ANNALS_SERVER_NAME": NAME,
        "ANNALS_FEDERATION__CA_FILES": f'["{authority.cert}"]',
        "ANNALS_FEDERATION__DENIED_RANGES": "[]",
        **with_limits(peers_s=PEERS_PATIENCE_S),
    }
    with RecordingPeer(authority, folder / "peer") as peer, Serve(folder, **environment) as serve:
        serve.start()
        wait_ready(serve)
        ann = register(serve.port, "ann")
        room_id = ann.create_room(preset="public_chat", room_version="12")
        peer.join(serve.port, NAME, room_id)
        yield Meeting(serve, peer, ann, room_id, [])


def test_what_is_said_arrives_in_order(meeting: Meeting) -> None:
    for n in range(5):
        meeting.say(f"first {n}")
    meeting.wait()
    assert meeting.peer.event_ids() == meeting.said


def test_killed_in_the_midst_of_a_transaction_nothing_is_lost(meeting: Meeting) -> None:
    meeting.peer.hold()
    asked = meeting.peer.asked
    meeting.say("under way")
    until(lambda: meeting.peer.asked > asked, "a transaction is under way")
    kill_role(meeting.serve, "remote")
    for n in range(60):
        meeting.say(f"meanwhile {n}")
    meeting.peer.go_on()
    meeting.wait()
    assert meeting.got() == meeting.said


def test_who_fails_and_talks_to_us_is_sent_to_at_once(meeting: Meeting) -> None:
    peer = meeting.peer
    peer.refuse(refuses=True)
    tries = peer.tries
    meeting.say("refused")
    until(lambda: peer.tries > tries, "it was tried")
    until(lambda: _failing(meeting.serve), "it is known to fail")
    # Its time comes in a day.
    rows(meeting.serve, "UPDATE ops.destinations SET retry_at_ms = retry_at_ms + 86400000 RETURNING 1")
    kill_role(meeting.serve, "remote")
    peer.refuse(refuses=False)
    path = f"/_matrix/federation/v1/event/{quote(meeting.said[0], safe='')}"

    def talk() -> bool:
        peer.request(meeting.serve.port, NAME, "GET", path)
        return meeting.said[-1] in peer.event_ids()

    until(talk, "it was sent to")
    assert meeting.got() == meeting.said


def test_a_rebuild_and_a_switch_send_nothing(meeting: Meeting) -> None:
    serve, peer = meeting.serve, meeting.peer
    meeting.say("before")
    meeting.wait()
    # Or what is not yet known to be delivered goes out once more.
    until(lambda: _all_done(serve, "g1"), "the sender has stored it")
    serve.stop()
    before = peer.asked
    # Every table is gone, and made again from the log.
    with opened_tables(serve.config) as database:
        assert database is not None
        database.write_now(lambda statements: statements.execute("DROP SCHEMA g1 CASCADE"))
    serve.start()
    wait_ready(serve)
    annals(serve, "replay", "--into", "g2", "--mode", "recompute", "--follow")
    annals(serve, "switch", "g2", *REASON)
    assert serving(serve) == "g2"
    wait_ready(serve)
    last = meeting.say("after")
    meeting.wait()
    assert peer.event_ids()[-1] == last
    assert peer.event_ids().count(last) == 1
    assert peer.asked == before + 1, "one transaction with what was said last, and nothing else"
    assert meeting.got() == meeting.said


def test_who_is_kicked_hears_of_it_and_of_nothing_after(meeting: Meeting) -> None:
    bob = f"@bob:{meeting.peer.name}"
    meeting.ann.room(meeting.room_id, "kick", user_id=bob)
    until(lambda: len(meeting.got()) == len(meeting.said) + 1, "the kick arrives")
    asked = meeting.peer.asked
    meeting.ann.say(meeting.room_id, "alone again", patient=True)
    until(lambda: _all_done(meeting.serve, "g2"), "the sender has passed it")
    assert meeting.peer.asked == asked


def _failing(serve: Serve) -> bool:
    return bool(rows(serve, "SELECT 1 FROM ops.destinations WHERE retry_at_ms IS NOT NULL"))


def _all_done(serve: Serve, generation: str) -> bool:
    """Whether the stored cursor has passed everything on the log, and no destination is known to lack any of it."""
    sql = f"""
        SELECT bool_and((c.vector::json -> 'rooms' ->> p.partition::int)::bigint >> 20 >= p.next_offset)
            AND NOT EXISTS (SELECT FROM ops.destinations WHERE vector IS NOT NULL)
        FROM {generation}.positions p, ops.cursors c WHERE p.topic = 'rooms' AND c.worker = 'egress'
    """
    return bool(rows(serve, sql)[0][0])
