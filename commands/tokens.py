"""Access tokens and device ids: made here, given to the client, and known to the log only by a hash."""

from __future__ import annotations

import secrets
import string
from hashlib import sha256

TOKEN_RANDOM_BYTES = 32
DEVICE_ID_LENGTH = 10

# So that a token that leaked is recognised by those who scan for them.
_PREFIX = "annals_"


def new_token() -> str:
    """A new access token."""
    return _PREFIX + secrets.token_urlsafe(TOKEN_RANDOM_BYTES)


def token_hash(token: str) -> bytes:
    """What stands for a token in the log and the tables: its SHA-256. No salt: the token is random enough."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def new_device_id() -> str:
    """A new device id, as clients are used to see them."""
    return "".join(secrets.choice(string.ascii_uppercase) for _ in range(DEVICE_ID_LENGTH))


def new_localpart() -> str:
    """A user name for somebody who asked for none."""
    return secrets.token_hex(8)
