"""Killing parts of a whole server, and watching what clients are told meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg2

from annals.queries.sync.token import SyncToken, unpack
from annals.server.embedded_postgres import EmbeddedPostgres
from tests.support.matrix_client import Client, quote, register
from tests.support.patience import PATIENCE_S
from tests.support.servers import Serve
from tests.support.waiting import until

#: Between what one client does and what it does next: those who talk do not keep the processors from all others.
PAUSE_S = 0.05
#: How long the threads of a test that has failed have to end.
_FAILED_S = 5.0


@dataclass(frozen=True, slots=True)
class Whole:
    """A server, and two people who are in a room. While `fault` exists, the projectors fail on marked events."""

    serve: Serve
    ann: Client
    bob: Client
    room_id: str
    fault: Path


def at(client: Client) -> Client:
    """The same device, for use by another thread."""
    return Client(client.port, client.user_id, client.token, client.device_id)


def wait_ready(serve: Serve) -> None:
    """Until the tables have the log and answers are given."""

    def is_ready() -> bool:
        with contextlib.suppress(OSError):
            if serve.get("/ready", PATIENCE_S)[0] == 200:
                return True
        time.sleep(PAUSE_S)
        return False

    until(is_ready, f"ready; see {serve.log}")


def kill_role(serve: Serve, role: str) -> None:
    """SIGKILL to one process of the server; the supervisor starts it again."""
    with contextlib.suppress(KeyError, ProcessLookupError):
        os.kill(serve.children()[role], signal.SIGKILL)


def kill_postgres(serve: Serve) -> None:
    """SIGKILL to PostgreSQL, every process of it: what is not on disk is lost."""
    postmaster = serve.children().get("postgres")
    if postmaster is None:
        return
    os.kill(postmaster, signal.SIGSTOP)
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for pid in (postmaster, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def stopped(serve: Serve, role: str) -> Iterator[int]:
    """One process of the server stands still."""
    pid = until(lambda: serve.children().get(role, 0), f"{role} runs")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def positions(serve: Serve, generation: str = "g1") -> dict[tuple[str, int], int]:
    """Next offsets of the tables, by topic and partition; waits for PostgreSQL."""

    def read() -> dict[tuple[str, int], int]:
        try:
            connection = psycopg2.connect(EmbeddedPostgres(serve.directory / "data" / "postgres").url())
        except psycopg2.Error:
            time.sleep(PAUSE_S)
            return {}
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT topic, partition, next_offset FROM {generation}.positions")
                return {(topic, partition): offset for topic, partition, offset in cursor.fetchall()}
        finally:
            connection.close()

    return until(read, "PostgreSQL answers")


@dataclass(frozen=True, slots=True)
class People:
    """Two people who are in a room."""

    ann: Client
    bob: Client
    room_id: str


def introduced(port: int) -> People:
    """Two new people, in a new room."""
    ann, bob = register(port, "ann"), register(port, "bob")
    room_id = ann.ok("POST", "/createRoom", {"preset": "public_chat"}, patient=True)["room_id"]
    bob.ok("POST", f"/rooms/{quote(room_id)}/join", {}, patient=True)
    return People(ann, bob, room_id)


def said_by(talker: Talker, history: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What a room's history, newest first, has of a talker: text and event id, oldest first."""
    return [
        (event["content"]["body"], event["event_id"])
        for event in reversed(history)
        if event["type"] == "m.room.message" and event["content"].get("body", "").split(" ")[0] == talker.name
    ]


class _Busy:
    """A thread that does one thing after the other until the `with` ends. `failure`: what ended it before."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._stop, self._given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _do(self) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._do()
                self._stop.wait(PAUSE_S)
        except BaseException as error:
            self.failure = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        if kind is not None:
            # Nobody asks any more what comes of what is under way.
            self._given_up.set()
            self._thread.join(_FAILED_S)
            return
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "still at it"
        if self.failure is not None:
            raise self.failure


class Watch(_Busy):
    """A logged-in client that asks who it is, and syncs, all the time. `tokens`: what /sync gave, in order."""

    def __init__(self, client: Client, *, syncs: bool = True) -> None:
        super().__init__()
        self.client = at(client)
        self._syncs = syncs
        self.tokens: list[SyncToken] = []
        self._since: str | None = None
        self.whoami: list[int] = []

    def check(self) -> None:
        """Nobody was told that what had been acknowledged is not there, or given a token of before."""
        assert set(self.client.seen) <= {0, 200, 503}, sorted(set(self.client.seen))
        for earlier, later in zip(self.tokens, self.tokens[1:], strict=False):
            assert not earlier.is_ahead_of(later), (earlier, later)

    def _do(self) -> None:
        with contextlib.suppress(OSError):
            self.whoami.append(self.client.call("GET", "/account/whoami")[0])
            if self._syncs:
                self._sync()

    def _sync(self) -> None:
        query = {"timeout": 0, **({"since": self._since} if self._since else {})}
        status, answer = self.client.call("GET", "/sync", None, query)
        if status == 200:
            self._since = answer["next_batch"]
            self.tokens.append(unpack(answer["next_batch"]))


class Talker(_Busy):
    """Sends one message after the other, each until it is acknowledged, under one transaction id."""

    def __init__(self, client: Client, room_id: str, name: str) -> None:
        super().__init__()
        self.acknowledged: list[tuple[str, str]] = []
        self._client, self._room_id, self.name = at(client), room_id, name
        self._client.given_up = self._given_up

    def _do(self) -> None:
        number = len(self.acknowledged)
        text = f"{self.name} {number}"
        event_id = self._client.say(self._room_id, text, txn=f"{self.name}-{number}", patient=True)
        self.acknowledged.append((text, event_id))

    @property
    def seen(self) -> list[int]:
        """Every status that it was answered."""
        return self._client.seen

    def goes_on_from(self, count: int) -> bool:
        """Whether more than `count` messages are acknowledged by now; raises what ended it."""
        if self.failure is not None:
            raise self.failure
        return len(self.acknowledged) > count + 3
