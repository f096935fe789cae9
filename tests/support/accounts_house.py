"""The application over a real PostgreSQL, a real log and the real folds, with or without the loop that joins them.

Without it (`accounts_house`) the folds of users, directory and subject keys run when somebody waits for a position: so
tests of endpoints are quick, and waits can be made to run out. With it (`live_house`) all is as in production.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from argon2 import PasswordHasher
from fastapi import FastAPI
from starlette.testclient import TestClient

from annals.api.app import make_app
from annals.api.auth.limits import Limits
from annals.api.server.own_keys import OwnKeys
from annals.api.services import ApiSettings, Services
from annals.commands.accounts import Accounts
from annals.commands.aliases import Aliases
from annals.commands.passwords import Passwords
from annals.commands.profiles import Profiles
from annals.commands.subject_keys import SubjectKeys
from annals.commands.user_data import UserData
from annals.database.copy_writer import write
from annals.database.listen import Listener
from annals.database.pool import Database
from annals.database.rows import Rows
from annals.database.snapshot import Snapshot
from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log, TopicPartition
from annals.eventlog.embedded import open_embedded
from annals.federation.addresses import AddressFilter
from annals.federation.client import FederationClient, Identity, Query
from annals.federation.settings import FederationSettings
from annals.ingest.key_notary import KeyNotary
from annals.ingest.keyring import KeyMissing, KeyNeed, Keyring
from annals.matrix.server_keys import KnownKey
from annals.matrix.signing import SigningKey
from annals.projectors import runner
from annals.projectors.folding import At, Overlay, load_rows
from annals.projectors.groups import GROUPS
from annals.projectors.notices import CHANNEL
from annals.projectors.positions import reached as positions
from annals.projectors.positions.appending import Appender, Reached
from annals.queries.accounts import AccountReads
from annals.queries.accounts_tokens import Tokens
from annals.queries.aliases import AliasReads
from annals.queries.profiles import ProfileReads
from annals.queries.remote import RemoteReads
from annals.schemas.codec import decode
from annals.schemas.topics import TOPICS, decisions_topic
from tests.support.patience import PATIENCE_S
from tests.support.scripted_peer import FakeNames

SERVER = "test"
PASSWORD = "long enough password"
SHARED_SECRET = "complement"
#: No other server can be connected to.
NOWHERE = FederationSettings(addresses=AddressFilter.of(denied=["0.0.0.0/0", "::/0"]))
#: Argon2 as cheap as it can be.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class Folder:
    """Folds what the log has into g1, when waited for."""

    log: Log
    connection: WriteConnection
    tokens: Tokens | None = None
    out_of_time: bool = False
    _positions: dict[TopicPartition, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def known(self) -> dict[TopicPartition, int]:
        return self._positions

    async def reached(self, vector: Mapping[TopicPartition, int], timeout_s: float) -> bool:
        """A stand-in for projectors.positions: fold up to the log's end, then say so."""
        if self.out_of_time:
            return False
        with self._lock:
            for topic, partition in vector:
                if topic in ("users", "directory", "subject_keys"):
                    self._fold(topic, partition)
        return True

    def _fold(self, topic: str, partition: int) -> None:
        projection = GROUPS[topic].projection
        assert projection is not None
        for record in self.log.read(topic, partition, self._positions.get((topic, partition), 0)):
            assert record.value is not None
            fact = decode(record.value)
            overlay = Overlay()
            touches = list(projection.touches(fact))
            overlay.learn(touches, load_rows(self.connection, touches))
            projection.fold(fact, At(topic, partition, record.offset), overlay)
            overlay.keep()
            self.connection.begin()
            write(self.connection, overlay.rows)
            self.connection.commit()
            if self.tokens is not None:
                self.tokens.cache.users_moved(projection.moved(fact).users)
            self._positions[topic, partition] = record.offset + 1


class AdminsOnly:
    """Nobody has power in any room."""

    powerful: set[tuple[str, str]]

    def __init__(self) -> None:
        self.powerful = set()

    def may_send_state(self, snapshot: Snapshot, room_id: str, user_id: str, event_type: str) -> bool:
        return (room_id, user_id) in self.powerful


class Unreachable:
    """A keyring of a house that reaches no other server."""

    async def keys(self, needs: Collection[KeyNeed]) -> dict[KeyNeed, KnownKey | KeyMissing]:
        """None, of nobody."""
        return {}


@dataclass(frozen=True)
class NobodyElse:
    """The client of a house that reaches no other server: the real one, for one request and its event loop."""

    identity: Identity
    now_ms: Callable[[], int]

    async def get(self, server: str, path: str, query: Query = (), *, timeout_s: float | None = None) -> Any:
        """Raises Unreachable, whatever the name."""
        async with FederationClient(self.identity, NOWHERE, self.now_ms, FakeNames()) as client:
            return await client.get(server, path, query, timeout_s=timeout_s)


async def _settled() -> None:
    """Nothing is learnt that tables would have to take."""


@dataclass
class Times:
    """The time, as tests set it."""

    now_ms: int = 1_700_000_000_000

    def now(self) -> int:
        """Milliseconds since 1970."""
        return self.now_ms


@dataclass
class House:
    """Everything of one small server."""

    database: Database
    log: Log
    waiter: Reached
    connection: WriteConnection
    appender: Appender
    services: Services
    power: AdminsOnly
    times: Times
    client: TestClient = field(init=False)
    token: str = ""
    """Of who was registered last."""

    def app(self, **changes: Any) -> FastAPI:
        """The app, with some of its services replaced."""
        return make_app(replace(self.services, **changes))

    def clock(self) -> int:
        """A clock that tests set forward."""
        return self.times.now_ms

    @property
    def folder(self) -> Folder:
        """What folds here, in a house without a loop."""
        assert isinstance(self.waiter, Folder)
        return self.waiter

    def call(
        self, method: str, path: str, body: Any = None, token: str | None = None, client: TestClient | None = None
    ) -> tuple[int, Any]:
        """(status, JSON) of one request."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = (client or self.client).request(method, path, json=body, headers=headers)
        return response.status_code, response.json() if response.content else None

    def register(self, name: str, **more: Any) -> dict[str, Any]:
        """Register a user; the answer."""
        body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}, **more}
        status, answer = self.call("POST", "/_matrix/client/v3/register", body)
        assert status == 200, answer
        assert isinstance(answer, dict)
        self.token = answer.get("access_token", "")
        return answer

    def put_rows(self, rows: Rows) -> None:
        """Write rows of tables that other projections own."""
        self.connection.begin()
        write(self.connection, rows)
        self.connection.commit()


@contextmanager
def accounts_house(url: str, directory: Path) -> Iterator[House]:
    """A house over the migrated database at `url`, its log in `directory`; the folds run when waited for."""
    with ExitStack() as parts:
        log, database = _stores(url, directory, parts)
        folder = Folder(log, parts.enter_context(closing(WriteConnection(url, "g1"))))
        house = _house(database, log, folder, folder.connection, parts)
        folder.tokens = house.services.tokens
        house.client = parts.enter_context(TestClient(house.app()))
        yield house


@contextmanager
def live_house(url: str, directory: Path) -> Iterator[House]:
    """The same with the loop of the projectors, in a thread, and its notifications."""
    with ExitStack() as parts:
        log, database = _stores(url, directory, parts)
        connection = parts.enter_context(closing(WriteConnection(url, "g1")))
        stop = threading.Event()
        loop = threading.Thread(target=runner.run, args=(log, url, "g1", SERVER, stop))
        loop.start()
        parts.callback(loop.join)
        parts.callback(stop.set)
        listener = Listener(url, [CHANNEL])
        reached = positions.Reached(database, listener)
        house = _house(database, log, reached, connection, parts)
        cache = house.services.tokens.cache
        reached.subscribe(lambda notice: cache.heard(notice.users, notice.everything))
        house.client = parts.enter_context(TestClient(house.app()))
        assert house.client.portal is not None
        house.client.portal.call(listener.start)
        parts.callback(house.client.portal.call, listener.close)
        house.client.portal.call(reached.start)
        parts.callback(house.client.portal.call, reached.close)
        yield house


def _stores(url: str, directory: Path, parts: ExitStack) -> tuple[Log, Database]:
    log = parts.enter_context(closing(open_embedded(directory / "log")))
    log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
    return log, parts.enter_context(closing(Database(url, threads=2)))


def _house(database: Database, log: Log, waiter: Reached, connection: WriteConnection, parts: ExitStack) -> House:
    passwords = parts.enter_context(closing(Passwords(CHEAP)))
    power = AdminsOnly()
    times = Times()
    appender = Appender(log, waiter, times.now, "test", wait_s=PATIENCE_S)
    keys = SubjectKeys(appender, database, secrets.token_bytes(32))
    signing_key = SigningKey("ed25519:1", b"\x01" * 32)
    own_keys = OwnKeys(SERVER, [signing_key], times.now)
    others = cast(FederationClient, NobodyElse(Identity(SERVER, signing_key), times.now))
    given: dict[str, Any] = {
        "settings": ApiSettings(SERVER, "0.0.1", registration_enabled=True, registration_shared_secret=SHARED_SECRET),
        "clock": times.now,
        "serving": lambda: True,
        "server_keys": own_keys,
        "tokens": Tokens(database),
        "limits": Limits(times.now),
        "accounts": Accounts(appender, database, keys, passwords, SERVER),
        "account_reads": AccountReads(database),
        "profiles": Profiles(appender, database),
        "profile_reads": ProfileReads(database),
        "user_data": UserData(appender, database),
        "aliases": Aliases(appender, database, power, SERVER),
        "alias_reads": AliasReads(database, SERVER),
        "remote_reads": RemoteReads(others),
        "notary": KeyNotary(SERVER, signing_key, own_keys, cast(Keyring, Unreachable()), database, _settled, times.now),
    }
    # What rooms need is not called here.
    needed = {wanted.name for wanted in fields(Services) if wanted.default is wanted.default_factory is MISSING}
    nothing: dict[str, Any] = dict.fromkeys(needed - given.keys())
    services = Services(**nothing, **given)
    return House(database, log, waiter, connection, appender, services, power, times)
