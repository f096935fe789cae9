"""The keys under which a subject's personal fields are sealed: found in the tables, made where there is none.

Two processes may make a first key at once. The earlier one on the log counts, so a key is used only after it was read
back from the tables; what the later one wrapped is never used.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from secrets import token_bytes

from annals.commands.errors import TryAgain
from annals.database.pool import Database
from annals.projectors.positions.appending import Appender
from annals.projectors.sealables import unpacked
from annals.schemas.facts.envelope import Envelope, Sealed
from annals.schemas.facts.subject_keys import SubjectKeyMade
from annals.schemas.sealing import KEY_BYTES, NONCE_BYTES, SubjectKey, make_subject_key, open_field, seal, unwrap, wrap

CACHED_KEYS_MAX = 1000

# Whoever opens a key has no use for its fact's envelope.
_NO_ENVELOPE = Envelope(0, "", "")
_KEY_SQL = "SELECT key_id, nonce, wrapped_key FROM subject_keys WHERE user_id = %s"


class SubjectKeys:
    """Seals and opens fields of users. `random` gives fresh random bytes."""

    def __init__(
        self, appender: Appender, database: Database, master_key: bytes, random: Callable[[int], bytes] = token_bytes
    ) -> None:
        self._appender, self._database, self._master_key, self._random = appender, database, master_key, random
        self._cache: OrderedDict[str, SubjectKey] = OrderedDict()

    async def existing(self, user_id: str) -> SubjectKey | None:
        """The key that counts for a user, or None."""
        if (cached := self._cache.get(user_id)) is not None:
            return cached
        row = await self._database.read(lambda snapshot: snapshot.one(_KEY_SQL, (user_id,)))
        if row is None:
            return None
        key_id, nonce, wrapped = row
        key = unwrap(SubjectKeyMade(_NO_ENVELOPE, user_id, key_id, bytes(nonce), bytes(wrapped)), self._master_key)
        self._cache[user_id] = key
        while len(self._cache) > CACHED_KEYS_MAX:
            self._cache.popitem(last=False)
        return key

    async def key_of(self, user_id: str, cause: str | None = None) -> SubjectKey:
        """The key that counts for a user; a new one where there is none."""
        if (key := await self.existing(user_id)) is not None:
            return key
        new = make_subject_key(user_id, self._random(KEY_BYTES))
        fact = wrap(new, self._master_key, self._random(NONCE_BYTES), self._appender.envelope(cause))
        await self._appender.submit_and_settle([fact])
        if (key := await self.existing(user_id)) is None:
            raise TryAgain("the subject's key was erased as it was made")
        return key

    async def seal(self, plain: bytes, field: str, user_id: str, cause: str | None = None) -> Sealed:
        """`plain` under the user's key, for the field of that name."""
        return seal(plain, field, await self.key_of(user_id, cause), self._random(NONCE_BYTES))

    async def open(self, column: bytes, field: str, user_id: str) -> bytes:
        """The plain bytes of a sealable column (projectors.sealables) of that user. KeyGone where they are erased."""
        value = unpacked(bytes(column))
        if not isinstance(value, Sealed):
            return value
        key = await self.existing(user_id)
        return open_field(value, field, {} if key is None else {key.key_id: key})
