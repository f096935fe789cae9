"""kill -9 of each process at random moments while clients talk: nothing that was acknowledged is lost or doubled."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from urllib.parse import quote

from annals.schemas.codec import decode
from annals.schemas.facts.rooms import PduCreated
from annals.server.operator_access import opened_log
from tests.support.crashes import Talker, Watch, Whole, at, kill_postgres, kill_role, said_by, stopped, wait_ready
from tests.support.matrix_client import Client
from tests.support.rebuild_check import assert_rebuild_equal, decided_twice
from tests.support.second_api import SecondApi
from tests.support.waiting import until

ROLES = ("projectors", "api", "remote", "postgres", "projectors", "api", "supervisor")
APART_S = (0.3, 1.5)


def test_nothing_acknowledged_is_lost(whole: Whole, rng: random.Random) -> None:
    wait_ready(whole.serve)
    other_room = whole.bob.create_room(preset="private_chat", room_version="10")
    with (
        Watch(whole.bob) as watch,
        Talker(whole.ann, whole.room_id, "ann") as ann,
        Talker(whole.bob, whole.room_id, "bob") as bob,
        Talker(whole.bob, other_room, "alone") as alone,
    ):
        for role in rng.sample(ROLES, len(ROLES)):
            time.sleep(rng.uniform(*APART_S))
            kill(whole, role)
        talkers = (ann, bob, alone)
        settled = [len(talker.acknowledged) for talker in talkers]
        until(lambda: all(t.goes_on_from(n) for t, n in zip(talkers, settled, strict=True)), "all go on")
    watch.check()
    for room_id, in_it in ((whole.room_id, (ann, bob)), (other_room, (alone,))):
        history = whole.bob.history(room_id)
        for talker in in_it:
            assert said_by(talker, history) == talker.acknowledged
    wait_ready(whole.serve)
    assert decided_twice(whole.serve.config) == []
    # A fold of it is compared at the end of all.
    assert_rebuild_equal(whole.serve.config, modes=("recompute",))


def kill(whole: Whole, role: str) -> None:
    if role == "supervisor":
        # Alone: its children end by themselves, and a new one finds what they left.
        os.kill(whole.serve.pid, signal.SIGKILL)
        assert whole.serve.process is not None
        whole.serve.process.wait()
        whole.serve.start()
    elif role == "postgres":
        kill_postgres(whole.serve)
    else:
        kill_role(whole.serve, role)


def test_a_retry_on_another_process_is_one_event(whole: Whole) -> None:
    """The api is killed between append and answer; the client's retry reaches another one."""
    wait_ready(whole.serve)
    path = f"/rooms/{quote(whole.room_id)}/send/m.room.message/only-once"
    content = {"msgtype": "m.text", "body": "only once"}
    with SecondApi(whole.serve) as other:
        with stopped(whole.serve, "projectors"):
            first = threading.Thread(target=_ignore_answer, args=(at(whole.ann), path, content), daemon=True)
            first.start()
            until(lambda: logged(whole, "only once"), "appended")
            kill_role(whole.serve, "api")
            first.join()
            retried: list[str] = []
            second = Client(other.port, whole.ann.user_id, whole.ann.token)
            retry = threading.Thread(
                target=lambda: retried.append(second.ok("PUT", path, content, patient=True)["event_id"]),
                daemon=True,
            )
            retry.start()
            time.sleep(0.3)
        retry.join()
        again = second.ok("PUT", path, content)["event_id"]
    third = at(whole.ann).ok("PUT", path, content, patient=True)["event_id"]
    assert [again, third] == retried * 2
    history = [event["event_id"] for event in whole.bob.history(whole.room_id) if event["content"] == content]
    assert history == retried
    assert logged(whole, "only once")[0] == retried[0]


def _ignore_answer(client: Client, path: str, content: object) -> None:
    with contextlib.suppress(OSError):
        client.call("PUT", path, content)


def logged(whole: Whole, text: str, field: str = "body") -> list[str]:
    """The ids of the events on the log whose content has this text in this field."""
    found = []
    with opened_log(whole.serve.config) as log:
        for partition in range(log.partitions("rooms")):
            for record in log.read("rooms", partition, 0, max_records=100_000, max_bytes=1 << 30):
                fact = decode(record.value) if record.value is not None else None
                if not isinstance(fact, PduCreated) or not isinstance(fact.body, bytes):
                    continue
                if json.loads(fact.body).get("content", {}).get(field) == text:
                    found.append(fact.event_id)
    return found


def test_a_display_name_that_was_answered_ends_in_all_rooms(whole: Whole, rng: random.Random) -> None:
    """Of today's servers some leave it old in some rooms for ever."""
    after_s = rng.uniform(0.0, 0.1)
    wait_ready(whole.serve)
    rooms = [whole.bob.create_room(preset="private_chat") for _ in range(5)]
    name = f"Bob after {after_s}"
    whole.bob.ok("PUT", f"/profile/{quote(whole.bob.user_id)}/displayname", {"displayname": name})
    time.sleep(after_s)
    whole.serve.kill_all()
    whole.serve.start()
    wait_ready(whole.serve)
    until(
        lambda: {whole.bob.displayname_in(room_id) for room_id in rooms} == {name},
        "the name is in all rooms",
    )


def test_nothing_is_concluded_from_tables_that_lack_a_part_of_the_log(whole: Whole) -> None:
    """A crash sets tables back, and each partition is folded again at its own pace.

    Who saw the command to change a name, and not the rooms yet, would call it done with the name in no room.
    """
    wait_ready(whole.serve)
    room_id = whole.bob.create_room(preset="private_chat")
    name = "Bob, once the tables are there"
    said = whole.serve.log.read_text().count("waits_for_tables")
    with stopped(whole.serve, "remote") as remote:
        whole.bob.ok("PUT", f"/profile/{quote(whole.bob.user_id)}/displayname", {"displayname": name})
        with stopped(whole.serve, "projectors"):
            path = f"/rooms/{quote(room_id)}/send/m.room.message/ahead"
            content = {"msgtype": "m.text", "body": "ahead of the tables"}
            ahead = threading.Thread(target=_ignore_answer, args=(at(whole.bob), path, content), daemon=True)
            ahead.start()
            until(lambda: logged(whole, "ahead of the tables"), "appended")
            os.kill(remote, signal.SIGKILL)
            until(
                lambda: (
                    whole.serve.log.read_text().count("waits_for_tables") > said or logged(whole, name, "displayname")
                ),
                "the next one waits",
            )
            assert logged(whole, name, "displayname") == []
    until(lambda: whole.bob.displayname_in(room_id) == name, "the name is in the room")
    ahead.join()
