"""The log describes itself: schemas stand on it before the first record that uses them."""

from __future__ import annotations

import pytest

from annals.schemas.codec import encode, schema_file
from annals.schemas.errors import Undecodable, UnknownSchema
from annals.schemas.facts.decisions import Mark, Waiting
from annals.schemas.registry import SchemaBook, missing_schemas

MARK, WAITING = encode(Mark(1, 1, "w")), encode(Waiting("!r", 1, 1, 1, 1, True))
MARK_PRINT, WAITING_PRINT = schema_file(Mark).fingerprint, schema_file(Waiting).fingerprint


def test_each_schema_is_asked_for_once_in_order_of_use() -> None:
    records = missing_schemas(set(), [WAITING, MARK, WAITING, None])
    assert [record.record_key for record in records] == [WAITING_PRINT, MARK_PRINT]
    assert records[1].topic == "schemas"
    assert records[1].value == schema_file(Mark).text.encode()


def test_what_is_on_the_log_is_not_asked_for() -> None:
    assert [record.record_key for record in missing_schemas({MARK_PRINT}, [MARK, WAITING])] == [WAITING_PRINT]


def test_a_book_knows_a_schema_once_it_is_acknowledged() -> None:
    book = SchemaBook()
    (record,) = book.missing([MARK])
    assert book.missing([MARK]) == [record]
    book.take(record.record_key, record.value)
    assert book.missing([MARK]) == []


def test_a_schema_under_another_fingerprint_is_refused() -> None:
    with pytest.raises(Undecodable):
        SchemaBook().take(WAITING_PRINT, schema_file(Mark).text.encode())


@pytest.mark.parametrize("value", [b"no schema", b"\xff"])
def test_what_is_no_schema_is_refused(value: bytes) -> None:
    with pytest.raises(Undecodable):
        SchemaBook().take(MARK_PRINT, value)


def test_a_record_of_an_unknown_schema_cannot_be_announced() -> None:
    with pytest.raises(UnknownSchema):
        missing_schemas(set(), [b"\xc3\x01" + b"\x11" * 8])
