"""Configuration: what is refused, what wins, what works with nothing at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from annals.server.config import Config, ConfigError, load

pytestmark = pytest.mark.usefixtures("no_settings")


def read(folder: Path, text: str) -> Config:
    path = folder / "annals.toml"
    path.write_text(text)
    return load(path)


def test_nothing_at_all_is_a_server_on_loopback() -> None:
    config = load()
    assert (config.server_name, config.client_listeners[0].address, config.client_listeners[0].port) == (
        "localhost",
        "127.0.0.1",
        8008,
    )
    assert not config.registration.enabled
    assert config.default_room_version == "12"


def test_a_variable_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNALS_SERVER_NAME", "hs1:8448")
    monkeypatch.setenv("ANNALS_REGISTRATION__ENABLED", "true")
    monkeypatch.setenv("DATABASE_URL", "postgresql://from.environment/")
    config = read(tmp_path, 'server_name = "hs2"\ndatabase_url = "postgresql://from.file/"\n')
    assert config.server_name == "hs1:8448"
    assert config.registration.enabled
    assert config.database_url is not None
    assert config.database_url.get_secret_value() == "postgresql://from.environment/"


def test_a_variable_and_the_file_share_a_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNALS_REGISTRATION__ENABLED", "true")
    config = read(tmp_path, '[registration]\nshared_secret = "s3"\n')
    assert (config.registration.enabled, config.registration.secret()) == (True, "s3")


REFUSED = [
    ('serve_name = "hs1"', "serve_name: no such setting"),
    ("[registration]\nopen = true", "registration.open: no such setting"),
    ('server_name = "two words"', "server_name: not a server name (a host, or host:port)"),
    ("[[client_listeners]]\nport = 70000", "client_listeners.0.port: Input should be less than or equal to 65535"),
    (
        'default_room_version = "99"',
        "default_room_version: not a known room version (one of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)",
    ),
    ('master_key_file = "data/log/master.key"', "master_key_file: keep it outside of the log's folder"),
    ('log_backend = "kafka"', "kafka_bootstrap: needed with log_backend kafka"),
    ("client_listeners = []", "client_listeners: at least one is needed"),
    ('[registration]\nshared_secret_file = "/nonexistent/secret"', "registration.shared_secret_file: "),
    ("server_name = ", "annals.toml: Invalid value"),
    ('public_baseurl = "not a url"', "public_baseurl: "),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_a_fault_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    assert said in str(raised.value)


def test_every_fault_has_a_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, 'server_name = "a b"\nunknown = 1\n[logging]\nlevel = "loud"\n')
    assert len(str(raised.value).splitlines()) == 3


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNALS_SERVERNAME", "hs1")
    # The database goes by the name that every tool reads; this one would be overlooked.
    monkeypatch.setenv("ANNALS_DATABASE_URL", "postgresql://x/")
    with pytest.raises(ConfigError) as raised:
        load()
    assert str(raised.value).splitlines() == [
        "ANNALS_DATABASE_URL: no such setting",
        "ANNALS_SERVERNAME: no such setting",
    ]


def test_a_secret_stands_in_no_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, '[registration]\nshared_secret = ["hunter2"]\n')
    assert "hunter2" not in str(raised.value)
    assert "hunter2" not in repr(read(tmp_path, '[registration]\nshared_secret = "hunter2"\n'))


def test_the_shared_secret_comes_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from a file\n")
    config = read(tmp_path, f'[registration]\nshared_secret_file = "{secret}"\n')
    assert config.registration.secret() == "from a file"


def test_keys_that_sign_no_more(tmp_path: Path) -> None:
    public = "l/O9hxMVKB6Lg+3Hqf0FQQZhVESQcMzbPN1Cz2nM3og"
    text = 'old_signing_keys."ed25519:a_1" = {{key = "{}", expired_ts = {}}}'
    [(key, expired_ms)] = read(tmp_path, text.format(public, 5)).retired_keys()
    assert (key.key_id, key.base64, expired_ms) == ("ed25519:a_1", public, 5)
    assert load().retired_keys() == []
    for bad in (text.format("short", 5), text.format(public, -1), text.format(public, 5).replace("ed25519:", "rsa:")):
        with pytest.raises(ConfigError, match="old_signing_keys"):
            read(tmp_path, bad)
