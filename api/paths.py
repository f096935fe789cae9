"""Paths exactly as clients send them.

The framework matches decoded paths, in which a room id with "/" (sent as %2F) falls apart. The front puts the
percent-encoded path in its place, and each parameter is decoded by itself, after matching: write `{room_id:id}`.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor

from annals.api.errors import invalid_param


def decode_segment(segment: str) -> str:
    """One segment of a path, percent-decoded once; 400 M_INVALID_PARAM where it is not UTF-8."""
    if "%" not in segment and segment.isascii():
        return segment
    try:
        # The front keeps the bytes of the wire as latin-1.
        return unquote_to_bytes(segment.encode("latin-1")).decode("utf-8")
    except UnicodeError:
        raise invalid_param("The path is not UTF-8") from None


class _Segment(Convertor[str]):
    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return decode_segment(value)

    def to_string(self, value: str) -> str:
        raise NotImplementedError("paths are never made from routes")


class _SegmentOrNothing(_Segment):
    regex = "[^/]*"


def register() -> None:
    """Teach the framework `{name:id}` (one segment) and `{name:id0}` (one that may be empty, as state keys are)."""
    register_url_convertor("id", _Segment())
    register_url_convertor("id0", _SegmentOrNothing())


register()
