"""The fold of the subject keys group: the first key of a subject counts, until a tombstone erases it."""

from __future__ import annotations

import json
from collections.abc import Iterable

from annals.projectors.folding import At, Overlay, Touch, UnknownFact
from annals.projectors.moved import Moved
from annals.projectors.subject_keys.tables import SUBJECT_KEYS
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.subject_keys import SubjectKeyMade


class SubjectKeysProjection:
    """The table of wrapped keys."""

    def touches(self, fact: Fact) -> Iterable[Touch]:
        """See Projection."""
        if isinstance(fact, SubjectKeyMade):
            yield Touch(SUBJECT_KEYS, (fact.user_id,))

    def fold(self, fact: Fact, at: At, rows: Overlay) -> None:
        """See Projection."""
        if not isinstance(fact, SubjectKeyMade):
            raise UnknownFact(type(fact).__name__)
        if rows.get(SUBJECT_KEYS, fact.user_id) is None:
            key = {"key_id": fact.key_id, "nonce": fact.nonce, "wrapped_key": fact.wrapped_key}
            rows.put(SUBJECT_KEYS, {"user_id": fact.user_id, **key, **at.provenance()})

    def touches_of_key(self, key: bytes) -> Iterable[Touch]:
        """See Projection."""
        user_id, _ = json.loads(key)
        yield Touch(SUBJECT_KEYS, (user_id,))

    def tombstone(self, key: bytes, at: At, rows: Overlay) -> None:
        """The key is erased: what was sealed under it stays unreadable."""
        user_id, key_id = json.loads(key)
        row = rows.get(SUBJECT_KEYS, user_id)
        if row is not None and row["key_id"] == key_id:
            rows.delete(SUBJECT_KEYS, user_id)

    def moved(self, fact: Fact) -> Moved:
        """Nobody waits for keys but by position."""
        return Moved()
