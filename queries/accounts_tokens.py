"""Whose an access token is: from the tables, through a cache that notifications keep true.

A cached owner is dropped when a notification says that the user moved, before anyone who waits for that move wakes: a
token whose log-out was answered is dead. What was read from a snapshot older than such a move is never stored:

    find(token) ──begin()──▶ snapshot ──────────────▶ store(…, begun): refused, the user moved since
                                   └ log-out commits ┘ └─ user_moved(user)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore

CACHED_TOKENS_MAX = 50_000
REMEMBERED_MOVES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class TokenOwner:
    """The user and device that a token belongs to."""

    user_id: str
    device_id: str
    is_admin: bool


def hash_of(token: str) -> bytes:
    """What stands for a token in the log and the tables: its SHA-256."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


class TokenCache:
    """Owners by token hash, bounded. Used from the event loop's thread only."""

    def __init__(self, size_max: int = CACHED_TOKENS_MAX, moves_max: int = REMEMBERED_MOVES_MAX) -> None:
        self._size_max, self._moves_max = size_max, moves_max
        self._owners: OrderedDict[bytes, TokenOwner] = OrderedDict()
        self._tokens: dict[str, set[bytes]] = {}
        self._moves = 0
        self._moved: OrderedDict[str, int] = OrderedDict()
        # Moves up to this one are forgotten: who began before it must not store.
        self._floor = 0

    def get(self, token_hash: bytes) -> TokenOwner | None:
        owner = self._owners.get(token_hash)
        if owner is not None:
            self._owners.move_to_end(token_hash)
        return owner

    def begin(self) -> int:
        """To be called before the snapshot is taken whose answer is to be stored."""
        return self._moves

    def store(self, token_hash: bytes, owner: TokenOwner, begun: int) -> None:
        """Keep an owner, unless the user moved after `begun`."""
        if begun < self._floor or self._moved.get(owner.user_id, 0) > begun:
            return
        self._owners[token_hash] = owner
        self._tokens.setdefault(owner.user_id, set()).add(token_hash)
        while len(self._owners) > self._size_max:
            evicted, its_owner = self._owners.popitem(last=False)
            self._forget(its_owner.user_id, evicted)

    def users_moved(self, user_ids: Iterable[str]) -> None:
        """The notifier's: something of these users changed. Call it before their waiters wake."""
        self._moves += 1
        for user_id in user_ids:
            self._moved[user_id] = self._moves
            self._moved.move_to_end(user_id)
            for token_hash in self._tokens.pop(user_id, ()):
                del self._owners[token_hash]
        while len(self._moved) > self._moves_max:
            self._floor = self._moved.popitem(last=False)[1]

    def heard(self, users: Iterable[str], everything: bool) -> None:
        """What a notice of projectors.positions says: subscribe to those with
        `lambda notice: cache.heard(notice.users, notice.everything)`."""
        if everything:
            self.clear()
        else:
            self.users_moved(users)

    def clear(self) -> None:
        """Nothing is known any more: another generation serves, or notifications may have been missed."""
        self._moves += 1
        self._floor = self._moves
        self._owners.clear()
        self._tokens.clear()
        self._moved.clear()

    def _forget(self, user_id: str, token_hash: bytes) -> None:
        hashes = self._tokens[user_id]
        hashes.discard(token_hash)
        if not hashes:
            del self._tokens[user_id]


class Tokens:
    """Finds the owner of an access token."""

    def __init__(self, database: Database, cache: TokenCache | None = None) -> None:
        self.cache = cache or TokenCache()
        self._database = database

    async def owner_of(self, token: str) -> TokenOwner | None:
        """Who the token belongs to; None for one that was never given, or is dead."""
        token_hash = hash_of(token)
        if (cached := self.cache.get(token_hash)) is not None:
            return cached
        begun = self.cache.begin()
        owner = await self._database.read(lambda snapshot: _owner(snapshot, token_hash))
        if owner is not None:
            self.cache.store(token_hash, owner, begun)
        return owner

    async def has_account(self, user_id: str) -> bool:
        """Whether there is an account of this id that was not closed; remembered like the owner of a token."""
        # No token has this hash: it is none.
        key = b"account of " + user_id.encode("utf-8", "surrogatepass")
        if self.cache.get(key) is not None:
            return True
        begun = self.cache.begin()
        row = await self._database.read(lambda snapshot: snapshot.one(_ACCOUNT_SQL, (user_id,)))
        if row is not None:
            self.cache.store(key, TokenOwner(user_id, "", False), begun)
        return row is not None


_ACCOUNT_SQL = "SELECT 1 FROM accounts WHERE user_id = %s AND NOT deactivated"
_OWNER_SQL = """
    SELECT t.user_id, t.device_id, a.admin
    FROM access_tokens t JOIN accounts a ON a.user_id = t.user_id
    WHERE t.token_hash = %s
"""


def _owner(snapshot: Snapshot, token_hash: bytes) -> TokenOwner | None:
    row = snapshot.one(_OWNER_SQL, (token_hash,))
    return None if row is None else TokenOwner(restore(row[0]), restore(row[1]), row[2])
