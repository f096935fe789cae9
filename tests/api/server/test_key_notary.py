"""The notary: what we say of others' keys is what they say, signed by us too; and never more work than it is worth."""

from __future__ import annotations

from typing import Any

import pytest

from annals.ingest.key_store import FetchedKeys
from annals.ingest.keyring import KeyFetchFailed, KeyNeed
from annals.matrix.signing import VerifyKey, verify_json
from tests.support.remote_server import DAY_MS, RemoteServer, now_ms
from tests.support.server import SERVER_NAME, LiveServer
from tests.support.server_fixtures import on_both_logs

QUERY = "/_matrix/key/v2/query"


def own_key(server: LiveServer) -> VerifyKey:
    """The key that our server publishes."""
    _, answer = server.call("GET", "/_matrix/key/v2/server")
    [(key_id, entry)] = answer["verify_keys"].items()
    return VerifyKey.from_base64(key_id, entry["key"])


@pytest.fixture
def asked(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> list[KeyNeed]:
    """What the keyring is asked for; nobody can be reached."""
    keyring, seen = server.house.peers.keyring, []
    keys = keyring.keys

    async def watched(needs: Any) -> Any:
        seen.extend(needs)
        return await keys(needs)

    async def direct(name: str) -> FetchedKeys:
        raise KeyFetchFailed("there is no network")

    monkeypatch.setattr(keyring, "keys", watched)
    monkeypatch.setattr(keyring._fetcher, "direct", direct)
    return seen


def test_known_keys_are_vouched_for(server: LiveServer, asked: list[KeyNeed]) -> None:
    remote = RemoteServer(server)
    for status, answer in (
        server.call("GET", f"{QUERY}/{remote.name}"),
        server.call("GET", f"{QUERY}/{remote.name}?minimum_valid_until_ts={now_ms() + DAY_MS // 2}"),
        server.call("POST", QUERY, {"server_keys": {remote.name: {}}}),
        server.call("POST", QUERY, {"server_keys": {remote.name: {remote.key.key_id: {}}}}),
    ):
        assert status == 200
        [item] = answer["server_keys"]
        assert item["server_name"] == remote.name
        verify_json(item, remote.name, remote.key.verify_key)
        verify_json(item, SERVER_NAME, own_key(server))
    assert asked == []


def test_our_own_keys_are_given_too(server: LiveServer) -> None:
    _, answer = server.call("GET", f"{QUERY}/{SERVER_NAME}")
    [item] = answer["server_keys"]
    verify_json(item, SERVER_NAME, own_key(server))
    assert server.call("GET", "/_matrix/key/v2/server/ed25519%3Aold")[1]["server_name"] == SERVER_NAME


def test_what_is_not_known_for_long_enough_is_asked_for(server: LiveServer, asked: list[KeyNeed]) -> None:
    remote = RemoteServer(server)
    later = now_ms() + 2 * DAY_MS
    wanted: list[dict[str, Any]] = [{remote.key.key_id: {"minimum_valid_until_ts": later}}, {"ed25519:x": {}}]
    for ids in wanted:
        status, answer = server.call("POST", QUERY, {"server_keys": {remote.name: ids}})
        # The server cannot be reached: what is known of it is better than nothing.
        assert (status, [item["server_name"] for item in answer["server_keys"]]) == (200, [remote.name])
    server.call("GET", f"{QUERY}/{remote.name}?minimum_valid_until_ts={later}")
    assert [need.server for need in asked] == [remote.name] * 3


@on_both_logs
def test_what_is_fetched_is_on_the_log_and_in_the_answer(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = RemoteServer(server, has_keys=False)

    async def direct(name: str) -> FetchedKeys:
        return remote.key_answer_fetched()

    monkeypatch.setattr(server.house.peers.keyring._fetcher, "direct", direct)
    status, answer = server.call("POST", QUERY, {"server_keys": {remote.name: {}}})
    assert (status, [item["server_name"] for item in answer["server_keys"]]) == (200, [remote.name])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"server_keys": 7},
        {"server_keys": {"bad name": {}, "": {}, "nobody.invalid": 7}},
        {"server_keys": {"gone.invalid": {"ed25519:1": 7, "rsa:1": {}, "": {}}}},
        {"server_keys": {"gone.invalid": {"ed25519:1": {"minimum_valid_until_ts": -1}}}},
        {"server_keys": {"gone.invalid": {f"ed25519:{n}": {"minimum_valid_until_ts": 2**70} for n in range(50)}}},
    ],
)
def test_nonsense_is_answered_by_nothing(server: LiveServer, asked: list[KeyNeed], body: dict[str, Any]) -> None:
    assert server.call("POST", QUERY, body) == (200, {"server_keys": []})
    assert len(asked) <= 20


def test_a_query_of_many_servers_is_bounded(server: LiveServer, asked: list[KeyNeed]) -> None:
    body: dict[str, Any] = {"server_keys": {f"gone{n}.invalid": {} for n in range(300)}}
    assert server.call("POST", QUERY, body) == (200, {"server_keys": []})
    assert len(asked) == 100
