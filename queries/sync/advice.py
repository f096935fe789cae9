"""The number by which tokens tell what they have heard of topic `ephemeral`: advice, as each process counts its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class EphemeralCount:
    """`offset`: at least the next offset to read of the topic; ahead of it by the changes that no record brought."""

    offset: int = 0
    _began: int = 0

    def begin(self, end: int) -> None:
        """The topic's end as of now: what is read of before it is no news to any token of now."""
        self.offset = self._began = end

    def at(self, offset: int) -> int:
        """A record: the number that its change has. Tokens below it have not heard of it."""
        if offset < self._began:
            return offset + 1
        self.offset = max(self.offset, offset) + 1
        return self.offset

    def bump(self) -> int:
        """The number of a change that no record brought."""
        self.offset += 1
        return self.offset

    def since(self, token: int) -> int:
        """What a token has heard of; a token of another process's count says nothing here: then all is told."""
        return token if token <= self.offset else 0
