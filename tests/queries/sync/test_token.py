"""Tokens of /sync and /messages: what is packed comes back, and what is none is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.queries.pages import NEWEST, BadPageToken, PageToken, before_position, unpack_page
from annals.queries.sync.token import BadToken, SyncToken, log_mark, token_of, unpack

OFFSETS = st.integers(0, (1 << 42) - 1)
PARTS = st.lists(OFFSETS, max_size=16).map(tuple)
TOKENS = st.builds(SyncToken, st.binary(min_size=6, max_size=6), PARTS, PARTS, PARTS, OFFSETS, OFFSETS)
NUMBERS = st.integers(0, (1 << 63) - 1)
PLACES = st.builds(PageToken, NUMBERS, NUMBERS, below=NUMBERS, above=NUMBERS)


@given(TOKENS)
def test_a_token_comes_back(token: SyncToken) -> None:
    assert unpack(token.pack()) == token


@given(PLACES)
def test_a_place_comes_back(place: PageToken) -> None:
    found = unpack_page(place.pack())
    assert (found, found.below, found.above) == (place, place.below, place.above)


@given(st.one_of(st.text(), st.text().map("s1_".__add__), st.text("AZaz09-_=").map("s1_".__add__)))
def test_other_texts_are_refused(text: str) -> None:
    try:
        token = unpack(text)
    except BadToken:
        return
    assert unpack(token.pack()) == token


@given(TOKENS, st.data())
def test_a_token_cut_short_is_refused(token: SyncToken, data: st.DataObject) -> None:
    text = token.pack()
    cut = text[: data.draw(st.integers(0, len(text) - 2))]
    with pytest.raises(BadToken):
        unpack(cut)


@given(st.one_of(st.text(), st.text("0123456789-tab").map("t".__add__)))
def test_other_places_are_refused(text: str) -> None:
    try:
        place = unpack_page(text)
    except BadPageToken:
        return
    assert max(place.depth, place.position, place.below, place.above) < 1 << 63


def test_a_token_is_short() -> None:
    token = SyncToken(log_mark("x"), *((1_000_000,) * 8,) * 3, 5, 7)
    assert len(token.pack()) <= 130


def test_ahead_and_bounds() -> None:
    offsets = {("rooms", 0): 4, ("rooms", 1): 7, ("users", 0): 1, ("receipts", 0): 2}
    token = token_of(b"123456", offsets, 0)
    assert (token.rooms, token.users, token.receipts) == ((4, 7), (1,), (2,))
    later = token_of(b"123456", {**offsets, ("receipts", 0): 3}, 0)
    assert later.is_ahead_of(token)
    assert not token.is_ahead_of(later)
    assert not token.fits(token_of(b"123456", {**offsets, ("rooms", 2): 0}, 0))


def test_a_place_in_the_stream_is_behind_everything_older() -> None:
    assert before_position(5).is_end_of_sync
    assert not NEWEST.is_end_of_sync
    assert not PageToken(3, 4, below=5).is_end_of_sync
