"""What other folders may ask of the servers projection."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.server_keys import KnownKey
from annals.matrix.signing import VerifyKey


@dataclass(frozen=True, slots=True)
class KeyAnswer:
    """The last answer about a server's keys, as a notary passes it on."""

    server: str
    answer: bytes
    """Canonical JSON with the server's signature, and a notary's if it came by one."""
    valid_until_ms: int
    fetched_at_ms: int


def keys_of(snapshot: Snapshot, servers: Collection[str]) -> dict[str, dict[str, KnownKey]]:
    """Known keys of these servers, by server and key id. One query."""
    found: dict[str, dict[str, KnownKey]] = {}
    sql = (
        "SELECT server_name, key_id, public_key, valid_until_ms, is_current, is_direct, fetched_at_ms "
        "FROM server_keys WHERE server_name = ANY(%s)"
    )
    for server, key_id, public, valid_until_ms, is_current, is_direct, fetched_at_ms in snapshot.rows(
        sql, (sorted(servers),)
    ):
        key = VerifyKey(restore(key_id), bytes(public))
        known = KnownKey(key, valid_until_ms, is_current, is_direct, fetched_at_ms)
        found.setdefault(server, {})[key.key_id] = known
    return found


def key_answers_of(snapshot: Snapshot, servers: Collection[str]) -> dict[str, KeyAnswer]:
    """The last answer about each of these servers, where there is one. One query."""
    sql = (
        "SELECT server_name, answer, valid_until_ms, fetched_at_ms FROM server_key_answers WHERE server_name = ANY(%s)"
    )
    rows = snapshot.rows(sql, (sorted(servers),))
    return {server: KeyAnswer(server, bytes(answer), until_ms, at_ms) for server, answer, until_ms, at_ms in rows}
