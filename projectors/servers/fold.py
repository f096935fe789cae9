"""The fold of the servers group: of several answers about a key, the better one counts."""

from __future__ import annotations

from collections.abc import Iterable

from annals.database.rows import Row
from annals.matrix.canonical_json import loads
from annals.matrix.errors import MatrixError
from annals.matrix.server_keys import KnownKey, ServerKeys, better_of, known_keys, read_server_keys
from annals.matrix.signing import VerifyKey
from annals.projectors.folding import At, Overlay, Touch, UnknownFact
from annals.projectors.moved import Moved
from annals.projectors.servers.tables import SERVER_KEY_ANSWERS, SERVER_KEYS
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.servers import ServerKeysFetched


class ServersProjection:
    """Tables of servers' keys."""

    def touches(self, fact: Fact) -> Iterable[Touch]:
        """See Projection."""
        if isinstance(fact, ServerKeysFetched):
            yield Touch(SERVER_KEYS, (fact.server_name,))
            yield Touch(SERVER_KEY_ANSWERS, (fact.server_name,))

    def fold(self, fact: Fact, at: At, rows: Overlay) -> None:
        """See Projection."""
        if not isinstance(fact, ServerKeysFetched):
            raise UnknownFact(type(fact).__name__)
        keys = _keys_of(fact)
        if keys is None:
            return
        is_direct = fact.fetched_from == fact.server_name
        before = {row["key_id"]: row for row in rows.under(SERVER_KEYS, fact.server_name)}
        for key_id, found in known_keys(keys, fact.fetched_at_ms, is_direct=is_direct).items():
            known = known_key(before[key_id]) if key_id in before else None
            if better_of(known, found) is found:
                rows.put(SERVER_KEYS, {**_row(fact.server_name, found), **at.provenance()})
        last = rows.get(SERVER_KEY_ANSWERS, fact.server_name)
        # What the server says itself stands until it says something else, or a notary has something newer of it.
        if is_direct or last is None or keys.valid_until_ms > last["valid_until_ms"]:
            answer = {
                "server_name": fact.server_name,
                "fetched_from": fact.fetched_from,
                "fetched_at_ms": fact.fetched_at_ms,
                "valid_until_ms": keys.valid_until_ms,
                "answer": fact.answer,
            }
            rows.put(SERVER_KEY_ANSWERS, {**answer, **at.provenance()})

    def touches_of_key(self, key: bytes) -> Iterable[Touch]:
        """None."""
        return ()

    def tombstone(self, key: bytes, at: At, rows: Overlay) -> None:
        """The topic is kept whole: a filler."""

    def moved(self, fact: Fact) -> Moved:
        """Nobody waits for keys but in the keyring, which knows what it saved."""
        return Moved()


def known_key(row: Row) -> KnownKey:
    """The key in a row of server_keys."""
    return KnownKey(
        VerifyKey(row["key_id"], bytes(row["public_key"])),
        row["valid_until_ms"],
        row["is_current"],
        row["is_direct"],
        row["fetched_at_ms"],
    )


def _keys_of(fact: ServerKeysFetched) -> ServerKeys | None:
    """The keys, if the answer is the server's own: a log that came from elsewhere is not believed by its word."""
    try:
        keys = read_server_keys(loads(fact.answer))
    except MatrixError:
        return None
    return keys if keys.server == fact.server_name else None


def _row(server_name: str, key: KnownKey) -> Row:
    return {
        "server_name": server_name,
        "key_id": key.key.key_id,
        "public_key": key.key.public,
        "valid_until_ms": key.valid_until_ms,
        "is_current": key.is_current,
        "is_direct": key.is_direct,
        "fetched_at_ms": key.fetched_at_ms,
    }
