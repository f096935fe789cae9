"""A notary for other servers (server-server API, "Querying keys through another server"): answers about the keys of
any server, as it signed them itself, with our signature beside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from annals.database.pool import Database
from annals.ingest.keyring import KeyNeed, Keyring
from annals.matrix.canonical_json import loads
from annals.matrix.identifiers import is_server_name
from annals.matrix.server_keys import KeysInvalid, read_server_keys
from annals.matrix.signing import ALGORITHM, SigningKey, sign_json
from annals.projectors.servers.read import KeyAnswer, key_answers_of

SERVERS_MAX = 100
"""Of one query."""
_KEYS_MAX = 20
_MS_MAX = 2**53 - 1
# No server publishes it: who needs it asks the server itself.
_ANY_KEY = f"{ALGORITHM}:"

Wanted = Mapping[str, int]
"""Key ids of a server, each with the time until which it must be valid; none: all keys, as of now."""


class KeyNotary:
    """Vouches for keys. What is known is answered from the tables; what is not is asked for, by the keyring."""

    def __init__(
        self,
        server_name: str,
        key: SigningKey,
        own: Callable[[], bytes],
        keyring: Keyring,
        database: Database,
        settled: Callable[[], Awaitable[object]],
        now_ms: Callable[[], int],
    ) -> None:
        """`own`: our own signed answer; `settled` waits until the tables have what the keyring learnt."""
        self._server_name, self._key, self._own = server_name, key, own
        self._keyring, self._database, self._settled, self._now_ms = keyring, database, settled, now_ms

    async def answers(self, wanted: Mapping[str, Wanted], until_ms: int | None = None) -> list[dict[str, Any]]:
        """What we can say of these servers, an object each; nothing of those that nobody knows.

        `until_ms`: how long what we say must be valid, of servers of which no key is named; now, if it is None.
        """
        until_ms = self._now_ms() if until_ms is None else until_ms
        found = [loads(self._own())] if self._server_name in wanted else []
        others = {name: ids for name, ids in wanted.items() if name != self._server_name and is_server_name(name)}
        known = await self._known(others)
        needs = {need for name, ids in others.items() for need in self._lacking(name, ids, known.get(name), until_ms)}
        if needs:
            await self._keyring.keys(needs)
            await self._settled()
            known = await self._known(others)
        return found + [self._signed(known[name]) for name in others if name in known]

    def _signed(self, answer: KeyAnswer) -> dict[str, Any]:
        return sign_json(loads(answer.answer), self._server_name, self._key)

    async def _known(self, servers: Mapping[str, Wanted]) -> dict[str, KeyAnswer]:
        if not servers:
            return {}
        return await self._database.read(lambda snapshot: key_answers_of(snapshot, servers.keys()))

    def _lacking(self, server: str, wanted: Wanted, known: KeyAnswer | None, until_ms: int) -> list[KeyNeed]:
        now_ms = self._now_ms()
        if known is None:
            return [KeyNeed(server, key_id, until) for key_id, until in (wanted or {_ANY_KEY: now_ms}).items()]
        # "minimum_valid_until_ts: ... If not supplied, the current time as determined by the notary server is used."
        enough_ms = max(wanted.values(), default=until_ms)
        if known.valid_until_ms >= enough_ms and _key_ids(known).issuperset(wanted):
            return []
        # What stands here is not enough: the server is asked anew, as a key that it has would not be.
        return [KeyNeed(server, _ANY_KEY, now_ms)]


def _key_ids(answer: KeyAnswer) -> set[str]:
    try:
        keys = read_server_keys(loads(answer.answer))
    except KeysInvalid:
        return set()
    return {*keys.current, *keys.old}


def read_wanted(content: Mapping[str, Any], now_ms: int) -> dict[str, dict[str, int]]:
    """The servers and keys in the body of a query; what makes no sense is left out, and what is too much."""
    servers = content.get("server_keys")
    wanted: dict[str, dict[str, int]] = {}
    for server, ids in servers.items() if type(servers) is dict else ():
        if len(wanted) >= SERVERS_MAX or type(ids) is not dict:
            continue
        named = [(key_id, criteria) for key_id, criteria in ids.items() if key_id.startswith(_ANY_KEY)]
        wanted[server] = {key_id: _until(criteria, now_ms) for key_id, criteria in named[:_KEYS_MAX]}
    return wanted


def _until(criteria: Any, now_ms: int) -> int:
    until_ms = criteria.get("minimum_valid_until_ts") if type(criteria) is dict else None
    return until_ms if type(until_ms) is int and 0 <= until_ms <= _MS_MAX else now_ms
