"""The two secrets that a server makes for itself at its first start, each in a file of its own of mode 0600.

signing key   signs events and requests; in signedjson's format, `ed25519 <version> <base64>`
master key    32 bytes, base64; seals what is personal in the log. Whoever loses it loses that for ever.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import tempfile
from pathlib import Path

from annals.matrix.signing import ALGORITHM, SigningKey
from annals.server.config import Config, ConfigError

MASTER_KEY_BYTES = 32
SEED_BYTES = 32
KEY_FILE_BYTES_MAX = 4096


def prepare(config: Config, *, log_is_new: bool = False) -> None:
    """Make the folders and the keys that are missing; check the ones that are there. Raises ConfigError.

    `log_is_new`: nobody has written to the log on Kafka yet. The embedded log is looked at.
    """
    config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    config.keys_dir.mkdir(mode=0o700, exist_ok=True)
    if not config.master_key_path.exists():
        # A new key would not open what the old one sealed, and nobody would notice until it is asked for.
        if config.log_backend == "embedded" and config.log_dir.is_dir() and any(config.log_dir.iterdir()):
            raise ConfigError(
                f"{config.master_key_path} is missing, and {config.log_dir} holds a log that was written with it: "
                f"put the file back"
            )
        if config.log_backend == "kafka" and not log_is_new:
            raise ConfigError(
                f"{config.master_key_path} is missing: `annals log init` makes it, once for a log; "
                f"every other machine takes a copy of it, and of {config.signing_key_path}"
            )
        _write_new(config.master_key_path, base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode() + "\n")
    if not config.signing_key_path.exists():
        seed = base64.b64encode(secrets.token_bytes(SEED_BYTES)).decode().rstrip("=")
        _write_new(config.signing_key_path, f"{ALGORITHM} a_{secrets.token_hex(2)} {seed}\n")
    load_master_key(config.master_key_path)
    load_signing_key(config.signing_key_path)


def load_master_key(path: Path) -> bytes:
    """The 32 bytes of the master key. Raises ConfigError."""
    try:
        key = base64.b64decode(_read_secret(path).strip(), validate=True)
    except binascii.Error as error:
        raise ConfigError(f"{path}: not base64") from error
    if len(key) != MASTER_KEY_BYTES:
        raise ConfigError(f"{path}: {len(key)} bytes, not {MASTER_KEY_BYTES}")
    return key


def load_signing_key(path: Path) -> SigningKey:
    """The first key of the file, the one that signs. Raises ConfigError."""
    match _read_secret(path).split(maxsplit=3):
        case [algorithm, version, encoded, *_] if algorithm == ALGORITHM:
            try:
                seed = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
            except binascii.Error as error:
                raise ConfigError(f"{path}: not base64") from error
            if len(seed) == SEED_BYTES:
                return SigningKey(f"{ALGORITHM}:{version}", seed)
    raise ConfigError(f"{path}: not a signing key ({ALGORITHM} <version> <base64 of {SEED_BYTES} bytes>)")


def _read_secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(KEY_FILE_BYTES_MAX)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(f"{path}: others may read it (mode {mode & 0o777:04o}): chmod 600 it")
    try:
        return text.decode("ascii")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a key file") from error


def _write_new(path: Path, text: str) -> None:
    """Write a file that is whole or not there, never over another one, and on disk when this returns."""
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:
        pass  # another start made it meanwhile; that one holds
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made: {error.strerror}") from error
    finally:
        os.unlink(name)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
