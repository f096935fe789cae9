"""Strings that a text column cannot hold, and back."""

from __future__ import annotations

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annals.database.text import restore, storable

any_string = st.text(st.characters(codec=None) | st.sampled_from("\x00\x01\ud800\udfff01u"))


@given(any_string)
def test_what_is_stored_comes_back(value: str) -> None:
    assert restore(storable(value)) == value


@given(any_string)
def test_the_stored_form_is_utf8_without_nul(value: str) -> None:
    assert b"\x00" not in storable(value).encode()


@given(st.lists(any_string, unique=True))
def test_different_strings_stay_different(values: list[str]) -> None:
    assert len({storable(value) for value in values}) == len(values)


@pytest.mark.parametrize("value", ["", "hello", "é 🎉 漢字", '{"body": "a\\u0000b"}', "tab\tnewline\n"])
def test_normal_strings_are_the_same_object(value: str) -> None:
    assert storable(value) is value
    assert restore(value) is value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\x00b", "a\x010b"),
        ("\x01", "\x011"),
        ("\x010", "\x0110"),
        ("\x01\x00", "\x011\x010"),
        ("\ud83d", "\x01ud83d"),
        ("é\x00", "é\x010"),
    ],
)
def test_the_form_on_disk_is_fixed(value: str, stored: str) -> None:
    assert storable(value) == stored


def test_postgres_holds_it(database_url: str) -> None:
    connection = psycopg2.connect(database_url)
    try:
        with connection.cursor() as cursor:

            @settings(max_examples=50)
            @given(any_string)
            def holds(value: str) -> None:
                cursor.execute("SELECT %s::text", (storable(value),))
                assert cursor.fetchone() == (storable(value),)

            holds()
    finally:
        connection.close()
