"""Glob-style matching (appendices): `*` is any run of characters, `?` is any one character; case does not matter.

A pattern is cut at its stars into pieces of fixed length. Each piece is looked for once, from where the one before it
ended: the leftmost place is always as good as a later one, so there is nothing to go back to, whatever others write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

PATTERN_CHARACTERS_MAX = 256
"""Longer patterns match nothing. It bounds the work of a pattern full of `?`: its length times the text's."""

# "A word boundary is defined as the start or end of the value, or any character not in the sets [A-Z], [a-z], [0-9] or
# _": a place that does not lie between two of these.
_BOUNDARY = r"(?:(?<![a-z0-9_])|(?![a-z0-9_]))"


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern, ready to match. Make it with `compile_glob` or `compile_literal`."""

    pieces: tuple[re.Pattern[str], ...]
    last_characters: int
    words: bool
    never: bool = False

    def matches(self, text: str) -> bool:
        """Whether the whole text matches; under `words`, whether some part between word boundaries does."""
        if self.never:
            return False
        lowered = text.lower()
        first, *middle = self.pieces[:-1] or self.pieces
        found = first.search(lowered) if self.words else first.match(lowered)
        for piece in middle:
            if found is None:
                return False
            found = piece.search(lowered, found.end())
        if found is None:
            return False
        return self._ends(lowered, found.end())

    def _ends(self, lowered: str, done: int) -> bool:
        last = self.pieces[-1]
        if len(self.pieces) == 1:
            return self.words or done == len(lowered)
        if self.words:
            return last.search(lowered, done) is not None
        start = len(lowered) - self.last_characters
        return start >= done and last.match(lowered, start) is not None


@lru_cache(maxsize=4_096)
def compile_glob(pattern: str, *, words: bool = False) -> Glob:
    """The pattern, to be held against whole values or (`words`) against parts of them between word boundaries."""
    return _compiled(pattern.lower().split("*"), words, wildcards=True)


@lru_cache(maxsize=4_096)
def compile_literal(text: str) -> Glob:
    """Matches where the text stands, as it is, between word boundaries."""
    return _compiled([text.lower()], words=True, wildcards=False)


def _compiled(pieces: list[str], words: bool, wildcards: bool) -> Glob:
    expressions = [_expression(piece, wildcards) for piece in pieces]
    if words:
        expressions[0] = _BOUNDARY + expressions[0]
        expressions[-1] += _BOUNDARY
    never = sum(map(len, pieces)) + len(pieces) - 1 > PATTERN_CHARACTERS_MAX
    compiled = () if never else tuple(re.compile(expression, re.DOTALL) for expression in expressions)
    return Glob(compiled, len(pieces[-1]), words, never)


def _expression(piece: str, wildcards: bool) -> str:
    return ".".join(re.escape(part) for part in piece.split("?")) if wildcards else re.escape(piece)
