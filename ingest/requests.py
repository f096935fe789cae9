"""Who sent a request: X-Matrix, checked with the keyring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from annals.ingest.keyring import KeyNeed, Keyring
from annals.matrix.errors import MatrixError
from annals.matrix.server_keys import KnownKey
from annals.matrix.x_matrix import XMatrix, check_destination, parse_authorization, verify

_HEADERS_MAX = 4


class RequestRefused(Exception):
    """The request is not authenticated: 401 M_UNAUTHORIZED; the message may be shown."""


class RequestVerifier:
    """Authenticates requests of other servers."""

    def __init__(self, server_name: str, keyring: Keyring, now_ms: Callable[[], int]) -> None:
        self._server_name, self._keyring, self._now_ms = server_name, keyring, now_ms
        self._told: list[Callable[[str], None]] = [keyring.heard_from]

    def tell(self, heard_from: Callable[[str], None]) -> None:
        """Call it too with each server that proved who it is."""
        self._told.append(heard_from)

    async def origin_of(
        self, method: str, target: str, headers: Sequence[str], content: dict[str, Any] | None = None
    ) -> str:
        """The server that sent the request; raises `RequestRefused`.

        `target` is path and query as they stood in the request line; `headers` the values of all Authorization
        headers, one for each of the sender's keys; `content` the body as JSON, None where there was none.
        """
        claims = self._claims(headers)
        # Requests are signed with a key that is valid now; `old_verify_keys` are "only valid for signing events".
        needs = {claimed: KeyNeed(claimed.origin, claimed.key_id, self._now_ms()) for claimed in claims}
        keys = await self._keyring.keys(set(needs.values()))
        reason = ""
        for claimed, need in needs.items():
            key = keys[need]
            if not isinstance(key, KnownKey) or not key.is_current:
                reason = f"no valid key {claimed.key_id[:100]} of {claimed.origin} can be had"
                continue
            try:
                verify(claimed, self._server_name, key.key, method, target, content)
            except MatrixError as error:
                raise RequestRefused(f"the signature of {claimed.origin} does not pass: {error}") from error
            for heard_from in self._told:
                heard_from(claimed.origin)
            return claimed.origin
        raise RequestRefused(reason)

    def _claims(self, headers: Sequence[str]) -> list[XMatrix]:
        try:
            claims = [parse_authorization(header) for header in headers[:_HEADERS_MAX]]
            for claimed in claims:
                check_destination(claimed, self._server_name)
        except MatrixError as error:
            raise RequestRefused(str(error)) from error
        if not claims:
            raise RequestRefused("the request has no X-Matrix authorisation")
        if len({claimed.origin for claimed in claims}) > 1:
            raise RequestRefused("the request claims to be from several servers")
        return claims
