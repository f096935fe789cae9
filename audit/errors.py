"""What an operator's command cannot do now."""

from __future__ import annotations


class GenerationInUse(Exception):
    """A generation cannot be written or dropped now; the message says why."""


class NotOfThisRoom(Exception):
    """An offset to skip is not that of a fact of the room."""
