"""The signed answer to GET /_matrix/key/v2/server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.signing import SigningKey, VerifyKey, sign_json

# "SHOULD be at least one hour, at most seven days ahead": servers ask again after half of it.
VALID_FOR_MS = 24 * 3600 * 1000
# An answer is signed anew when this much of its time has gone.
_RENEW_AFTER_MS = VALID_FOR_MS // 2


class OwnKeys:
    """Publishes our verify keys, signed by each of them; a signed answer is kept for half of its validity. `old`: keys
    that sign no more, each with the time (ms) at which it was last used."""

    def __init__(
        self,
        server_name: str,
        keys: Sequence[SigningKey],
        clock: Callable[[], int],
        old: Iterable[tuple[VerifyKey, int]] = (),
    ) -> None:
        self._server_name, self._keys, self._clock = server_name, keys, clock
        self._old = {key.key_id: {"key": key.base64, "expired_ts": expired_ms} for key, expired_ms in old}
        self._made_ms: int | None = None
        self._text = b""

    def __call__(self) -> bytes:
        """JSON text of the answer."""
        now_ms = self._clock()
        if self._made_ms is None or not 0 <= now_ms - self._made_ms < _RENEW_AFTER_MS:
            self._text, self._made_ms = self._signed(now_ms), now_ms
        return self._text

    def _signed(self, now_ms: int) -> bytes:
        content = {
            "server_name": self._server_name,
            "verify_keys": {key.key_id: {"key": key.verify_key.base64} for key in self._keys},
            "old_verify_keys": self._old,
            "valid_until_ts": now_ms + VALID_FOR_MS,
        }
        for key in self._keys:
            content = sign_json(content, self._server_name, key)
        return canonical_bytes(content)
