"""Facts of topic `subject_keys`, keyed by user_id, compacted: the keys that open sealed fields."""

from __future__ import annotations

from dataclasses import dataclass

from annals.schemas.facts.envelope import Fact


@dataclass(frozen=True, slots=True)
class SubjectKeyMade(Fact):
    """A subject's key, wrapped by the master key that is outside the log. The first key of a subject counts."""

    user_id: str
    key_id: str
    nonce: bytes
    wrapped_key: bytes
