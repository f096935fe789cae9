"""The keys that a server makes at its first start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from signedjson.key import read_signing_keys

from annals.server.config import Config, ConfigError
from annals.server.keys import load_master_key, load_signing_key, prepare

pytestmark = pytest.mark.usefixtures("no_settings")


def test_first_start_makes_both_and_later_ones_keep_them(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path / "data")
    prepare(config)
    files = (config.master_key_path, config.signing_key_path)
    first = [path.read_bytes() for path in files]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600, 0o600]
    assert len(load_master_key(config.master_key_path)) == 32
    prepare(config)
    assert [path.read_bytes() for path in files] == first
    assert sorted(path.name for path in config.keys_dir.iterdir()) == ["master.key", "signing.key"]


def test_the_signing_key_is_a_file_that_signedjson_reads(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path)
    prepare(config)
    ours = load_signing_key(config.signing_key_path)
    theirs = read_signing_keys(config.signing_key_path.read_text().splitlines())[0]
    assert f"{theirs.alg}:{theirs.version}" == ours.key_id
    assert bytes(theirs) == ours.seed


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    config = Config(data_dir=tmp_path)
    prepare(config)
    config.master_key_path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        prepare(config)


def test_no_new_master_key_beside_an_old_log(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path)
    prepare(config)
    config.log_dir.mkdir()
    (config.log_dir / "log.sqlite").touch()
    config.master_key_path.unlink()
    with pytest.raises(ConfigError, match="put the file back"):
        prepare(config)
    assert not config.master_key_path.exists()


@pytest.mark.parametrize("text", ["", "ed25519 a_1", "rsa a_1 AAAA", "ed25519 a_1 AAAA", "ed25519 a_1 !!!!"])
def test_what_is_no_signing_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "signing.key"
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
    with pytest.raises(ConfigError):
        load_signing_key(path)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64", "\x80"])
def test_what_is_no_master_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "master.key"
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
    with pytest.raises(ConfigError):
        load_master_key(path)
