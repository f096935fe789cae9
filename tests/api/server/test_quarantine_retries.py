"""What waits in quarantine for a key is tried again by itself, through every check, and not for ever."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from annals.ingest.inbound.retrying import ATTEMPTS_MAX, LONGEST_WAIT_MS, QuarantineRetrier
from annals.ingest.key_facts import FactKeyStore, keys_in
from annals.ingest.key_fetching import HttpKeyFetcher
from annals.ingest.key_store import FetchedKeys
from annals.ingest.keyring import KeyFetchFailed, Keyring
from annals.ingest.pdu_verifier import PduVerifier
from annals.matrix.events import Event
from annals.matrix.signing import SigningKey
from annals.schemas.facts.quarantine import QuarantineRetried
from tests.api.server.test_out_of_band import invited, invites_of, member
from tests.api.server.test_transactions import facts_of, received
from tests.support.remote_server import RemoteServer, now_ms, verdict
from tests.support.server import LiveServer, User
from tests.support.server_fixtures import on_both_logs
from tests.support.waiting import until


class NoNetwork(HttpKeyFetcher):
    """Nobody can be asked for keys."""

    def __init__(self) -> None:
        pass

    async def direct(self, server: str) -> FetchedKeys:
        raise KeyFetchFailed("there is no network")

    def asks_notaries_for(self, server: str) -> bool:
        return False


class Retries:
    """A retrier with a clock of its own and a keyring that knows what the tables know."""

    def __init__(self, server: LiveServer, threads: ThreadPoolExecutor) -> None:
        self.server, self.ahead_ms, self._threads = server, 0, threads
        self.new()

    def new(self) -> None:
        """Another process."""
        house = self.server.house
        store = FactKeyStore(house.appender, keys_in(house.database))
        keyring = Keyring(self.server.config.server_name, [], store, NoNetwork(), self.now_ms, lambda: 0.5)
        verifier = PduVerifier(keyring, self._threads)
        self.retrier = QuarantineRetrier(house.log, house.appender, house.database, verifier, self.now_ms)

    def now_ms(self) -> int:
        """Ahead of the server's."""
        return now_ms() + self.ahead_ms

    def work(self) -> int:
        """A pass, when everything is due."""
        self.ahead_ms += LONGEST_WAIT_MS + 60_000
        return self.server.on_loop(self.retrier.work())

    def outcomes(self, remote: RemoteServer) -> list[str]:
        """What came of the retries of a server's inputs."""
        found = facts_of(self.server, "quarantine", QuarantineRetried)
        return [fact.outcome for fact in found if fact.origin == remote.name]


@pytest.fixture
def retries(server: LiveServer) -> Iterator[Retries]:
    with ThreadPoolExecutor(1) as threads:
        yield Retries(server, threads)


def kept(server: LiveServer) -> tuple[User, RemoteServer, RemoteServer, Event]:
    """alice, who sent an event of her room, who made it, and the event: in quarantine, as its maker has no keys."""
    alice, remote = server.user("alice"), RemoteServer(server)
    late = RemoteServer(server, has_keys=False)
    room_id = alice.create_room(preset="public_chat")
    bob = late.user("bob")
    event = late.build(room_id, bob, "m.room.member", {"membership": "join"}, bob)
    with without_network(server):
        status, answer = remote.send([event.pdu])
    assert (status, list(answer["pdus"])) == (200, [event.event_id])
    return alice, remote, late, event


@contextmanager
def without_network(server: LiveServer) -> Iterator[None]:
    """Our server's keyring can reach nobody."""
    keyring = server.house.peers.keyring
    before, keyring._fetcher = keyring._fetcher, NoNetwork()
    try:
        yield
    finally:
        keyring._fetcher = before


@on_both_logs
def test_a_key_that_comes_later_releases_the_event(server: LiveServer, retries: Retries) -> None:
    _, remote, maker, event = kept(server)
    assert retries.work() >= 1
    assert retries.outcomes(remote) == ["key_unavailable"]
    assert verdict(server, event.room_id, event.event_id) is None
    maker.publish_keys(valid_for_ms=LONGEST_WAIT_MS * 1000)
    retries.new()
    retries.work()
    assert retries.outcomes(remote) == ["key_unavailable", "released"]
    assert remote.wait_for(event) == "accepted"
    # It is over: neither this process nor another tries it again.
    retries.work()
    retries.new()
    retries.work()
    assert retries.outcomes(remote) == ["key_unavailable", "released"]
    assert len(received(server, remote)) == 1


def test_a_key_that_never_comes_is_given_up(server: LiveServer, retries: Retries) -> None:
    _, remote, _, _ = kept(server)
    for _ in range(ATTEMPTS_MAX + 3):
        retries.work()
    assert retries.outcomes(remote) == ["key_unavailable"] * (ATTEMPTS_MAX - 1) + ["expired"]


def test_every_check_is_made_again(server: LiveServer, retries: Retries) -> None:
    alice, remote, maker, event = kept(server)
    _, other, forger, _ = kept(server)
    alice.set_state(event.room_id, "m.room.server_acl", {"allow": ["*"], "deny": [remote.name]})
    # Not the key by which it is signed, though of its id.
    forger.key = RemoteServer(server).key
    for late in (maker, forger):
        late.publish_keys(valid_for_ms=LONGEST_WAIT_MS * 1000)
    retries.work()
    assert retries.outcomes(remote) == ["acl_denied"]
    assert retries.outcomes(other) == ["signature_invalid"]
    assert (received(server, remote), received(server, other)) == ([], [])


def test_a_room_that_we_have_left_is_not_waited_for(server: LiveServer, retries: Retries) -> None:
    alice, remote, _, event = kept(server)
    alice.leave(event.room_id)
    retries.work()
    assert retries.outcomes(remote) == ["not_in_room"]


def test_an_invite_is_taken_back_when_the_key_comes(server: LiveServer, retries: Retries) -> None:
    alice, remote, invite = invited(server)
    key, remote.key = remote.key, SigningKey("ed25519:r_2", secrets.token_bytes(32))
    cites = {"auth_events": [invite.event_id]}
    back = member(remote, "10", invite.room_id, invite.sender, alice.id, membership="leave", **cites)
    remote.key, new_key = key, remote.key
    with without_network(server):
        status, answer = remote.send([back.pdu])
    assert (status, list(answer["pdus"])) == (200, [back.event_id])
    retries.work()
    assert invites_of(alice) == {invite.room_id}
    remote.key = new_key
    remote.publish_keys(valid_for_ms=LONGEST_WAIT_MS * 1000)
    retries.new()
    retries.work()
    assert retries.outcomes(remote) == ["key_unavailable", "released"]
    until(lambda: invites_of(alice) == set(), "the invite to be gone")
