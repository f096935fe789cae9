"""Versions, well-known documents, capabilities, keys, push rules."""

from __future__ import annotations

from dataclasses import replace

from starlette.testclient import TestClient

from annals.matrix.signing import SigningKey, verify_json
from tests.support.accounts_house import SERVER, House


def test_versions_need_no_token(house: House) -> None:
    status, content = house.call("GET", "/_matrix/client/versions")
    assert status == 200
    assert "v1.11" in content["versions"]


def test_well_known_documents_where_configured(house: House) -> None:
    paths = [f"/.well-known/matrix/{name}" for name in ("client", "server", "support")]
    assert [house.call("GET", path)[0] for path in paths] == [404, 404, 404]
    document = {"m.homeserver": {"base_url": "https://x"}}
    settings = replace(
        house.services.settings,
        well_known_client=document,
        well_known_server={"m.server": "x:1"},
        well_known_support={"contacts": []},
    )
    client = TestClient(house.app(settings=settings))
    answers = [house.call("GET", path, client=client) for path in paths]
    assert answers == [(200, document), (200, {"m.server": "x:1"}), (200, {"contacts": []})]


def test_capabilities(house: House) -> None:
    path = "/_matrix/client/v3/capabilities"
    assert house.call("GET", path)[0] == 401
    token = house.register("alice")["access_token"]
    versions = house.call("GET", path, token=token)[1]["capabilities"]["m.room_versions"]
    assert versions == {"default": "12", "available": {"10": "stable", "11": "stable", "12": "stable"}}


def test_server_keys_are_signed_and_renewed(house: House) -> None:
    key = SigningKey("ed25519:1", b"\x01" * 32).verify_key
    status, first = house.call("GET", "/_matrix/key/v2/server")
    assert status == 200
    assert (first["server_name"], first["verify_keys"]) == (SERVER, {"ed25519:1": {"key": key.base64}})
    assert first["valid_until_ts"] > house.times.now_ms + 3600 * 1000
    verify_json(first, SERVER, key)
    house.times.now_ms += 20 * 3600 * 1000
    second = house.call("GET", "/_matrix/key/v2/server")[1]
    assert second["valid_until_ts"] > house.times.now_ms + 3600 * 1000
    verify_json(second, SERVER, key)


def test_default_push_rules(house: House) -> None:
    alice = house.register("alice")
    token, base = alice["access_token"], "/_matrix/client/v3/pushrules/"
    status, rules = house.call("GET", base, token=token)
    assert status == 200
    assert house.call("GET", base + "global/", token=token) == (200, rules["global"])
    master = rules["global"]["override"][0]
    assert house.call("GET", base + "global/override/.m.rule.master", token=token) == (200, master)
    assert house.call("GET", base + "global/override/.m.rule.master/enabled", token=token) == (200, {"enabled": False})
    assert house.call("GET", base + "global/override/.m.rule.master/actions", token=token) == (200, {"actions": []})
    assert house.call("GET", base + "global/override/nonsense", token=token)[0] == 404
    assert house.call("GET", base + "global/nonsense/x", token=token)[0] == 400
    assert house.call("GET", base)[0] == 401
