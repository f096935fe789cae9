"""Values of every type arrive, in one round trip or by COPY."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annals.database import copy_writer, write_connection
from annals.database.copy_writer import BULK_ROWS_MIN, small_statements, write
from annals.database.errors import BadRow, DatabaseError, StatementFailed
from annals.database.rows import Kind, Rows
from annals.database.text import storable
from annals.database.write_connection import WriteConnection
from tests.support.statements import count_statements
from tests.support.tables import EVERY_TYPE, KEYS_ONLY

NASTY = st.text(
    st.sampled_from("\\\t\n\r\b\f\v{}\"',;%$:N. \x00\x01\ud800é🎉a0u") | st.characters(codec=None), max_size=12
)
BIGINT = st.integers(-(2**63), 2**63 - 1)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "small": st.integers(-(2**15), 2**15 - 1),
    "flag": st.booleans(),
    "data": st.binary(max_size=20),
    "texts": st.lists(st.none() | NASTY | st.sampled_from(["NULL", "", "{}", "\\."]), max_size=4),
    "numbers": st.lists(st.none() | BIGINT, max_size=4),
    "blobs": st.lists(st.binary(max_size=5), max_size=3),
    "ratio": st.floats(allow_nan=False),
    "user": NASTY | st.sampled_from(["\\N", "\\.", "NULL", ""]),
    'odd"name': NASTY,
}
KEY: dict[str, st.SearchStrategy[Any]] = {"room": NASTY, "number": BIGINT}
CONTENT = st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()})
ROW = st.builds(lambda key, content: key | content, st.fixed_dictionaries(KEY), CONTENT)


def stored(row: dict[str, Any]) -> tuple[Any, ...]:
    """The row as the table answers it, made without the code under test (but for the escape of strings)."""

    def value(given: Any) -> Any:
        if isinstance(given, str):
            return storable(given)
        return [value(item) for item in given] if isinstance(given, list) else given

    return tuple(value(row.get(column.name)) for column in EVERY_TYPE.columns)


def all_rows(writer: WriteConnection) -> list[tuple[Any, ...]]:
    return sorted(writer.rows("SELECT * FROM every_type"), key=lambda row: (row[0], row[1]))


def written(writer: WriteConnection, rows: Rows) -> copy_writer.WriteStats:
    writer.begin()
    stats = write(writer, rows)
    writer.commit()
    return stats


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("kind", ["insert", "upsert", "update"])
def test_every_value_of_every_type_arrives(
    writer: WriteConnection, kind: str, bulk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_writer, "BULK_ROWS_MIN", dict.fromkeys(Kind, 1 if bulk else 1000))

    @settings(max_examples=settings().max_examples // 2)
    @given(st.lists(ROW, min_size=1, max_size=5, unique_by=lambda row: (row["room"], row["number"])))
    def check(given_rows: list[dict[str, Any]]) -> None:
        writer.execute("TRUNCATE every_type")
        before, rows = Rows(), Rows()
        for row in given_rows:
            key = {"room": row["room"], "number": row["number"]}
            if kind == "insert":
                rows.insert(EVERY_TYPE, row)
            else:
                before.insert(EVERY_TYPE, {**key, "user": "before"})
                if kind == "upsert":
                    rows.upsert(EVERY_TYPE, row)
                else:
                    rows.update(EVERY_TYPE, key, {name: row[name] for name in VALUES})
        written(writer, before)
        written(writer, rows)
        assert all_rows(writer) == sorted(map(stored, given_rows), key=lambda row: (row[0], row[1]))
        removal = Rows()
        for row in given_rows:
            removal.delete(EVERY_TYPE, {"room": row["room"], "number": row["number"]})
        written(writer, removal)
        assert all_rows(writer) == []

    check()


def numbered(count: int, *, start: int = 0, user: str = "u") -> Rows:
    rows = Rows()
    for number in range(start, start + count):
        rows.upsert(EVERY_TYPE, {"room": "!r", "number": number, "user": user})
    return rows


def test_few_rows_of_several_tables_are_one_round_trip(writer: WriteConnection) -> None:
    rows = numbered(3)
    rows.insert(KEYS_ONLY, {"name": "a"})
    rows.update(EVERY_TYPE, {"room": "!r", "number": 77}, {"flag": True})
    rows.delete(EVERY_TYPE, {"room": "!r", "number": 78})
    writer.begin()
    with count_statements(writer) as sent:
        stats = write(writer, rows)
    writer.commit()
    assert len(sent.all) == stats.statements == 1
    assert stats.rows == 6
    assert stats.bytes == len(sent.all[0])


def test_few_rows_go_along_with_other_statements(writer: WriteConnection) -> None:
    rows = numbered(BULK_ROWS_MIN[Kind.UPSERT] - 1)
    rows.insert(KEYS_ONLY, {"name": "a"})
    few = small_statements(rows)
    assert few is not None
    with count_statements(writer) as sent:
        assert writer.execute_many_in_one(["BEGIN", *few, "COMMIT", "SELECT count(*) FROM every_type"]) == [
            (BULK_ROWS_MIN[Kind.UPSERT] - 1,)
        ]
    assert len(sent.all) == 1
    assert writer.rows("SELECT * FROM keys_only") == [("a",)]
    assert small_statements(Rows()) == []
    rows.upsert(EVERY_TYPE, {"room": "!r", "number": -1})
    assert small_statements(rows) is None, "one of a kind is enough for a COPY"


def test_many_inserts_are_one_copy(writer: WriteConnection) -> None:
    rows = Rows()
    for number in range(BULK_ROWS_MIN[Kind.INSERT]):
        rows.insert(KEYS_ONLY, {"name": str(number)})
    writer.begin()
    with count_statements(writer) as sent:
        stats = write(writer, rows)
    writer.commit()
    assert [sql.split()[0] for sql in sent.all] == ["COPY"]
    assert stats.statements == 1


@pytest.mark.parametrize("kind", [Kind.INSERT, Kind.UPSERT])
def test_much_more_than_a_network_buffer_arrives(writer: WriteConnection, kind: Kind) -> None:
    rows, count = Rows(), 300
    for number in range(count):
        row = {"room": "!r", "number": number, "user": f"{number}," * 1000}
        (rows.insert if kind is Kind.INSERT else rows.upsert)(EVERY_TYPE, row)
    stats = written(writer, rows)
    assert stats.bytes > 1_000_000
    assert writer.rows('SELECT number, "user" FROM every_type ORDER BY number') == [
        (number, f"{number}," * 1000) for number in range(count)
    ]


def test_staging_is_made_once_and_its_batches_stay_apart(writer: WriteConnection) -> None:
    many = BULK_ROWS_MIN[Kind.UPSERT]
    writer.begin()
    write(writer, numbered(many, user="first"))
    with count_statements(writer) as sent:
        write(writer, numbered(many, start=many, user="second"))
    # Were the first batch applied again, this would be undone by it.
    write(writer, numbered(1, user="changed"))
    write(writer, numbered(many, start=many, user="third"))
    writer.commit()
    assert [sql.split()[0] for sql in sent.all] == ["COPY", "INSERT"]
    users = [row[0] for row in writer.rows('SELECT "user" FROM every_type ORDER BY number')]
    assert users == ["changed"] + ["first"] * (many - 1) + ["third"] * many


def test_staging_is_emptied_when_it_holds_much(writer: WriteConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    many = BULK_ROWS_MIN[Kind.UPSERT]
    staged = []
    for limit_bytes in (1 << 20, 1 << 20, 0):
        monkeypatch.setattr(write_connection, "STAGING_BYTES_MAX", limit_bytes)
        written(writer, numbered(many))
        staged.append(writer.one("SELECT count(*) FROM staging_every_type"))
    assert staged == [(many,), (2 * many,), (many,)]


def test_staging_is_made_again_after_a_rollback_took_it(writer: WriteConnection) -> None:
    many = BULK_ROWS_MIN[Kind.UPSERT]
    writer.begin()
    write(writer, numbered(many))
    writer.rollback()
    for _ in range(2):
        written(writer, numbered(many))
        writer.begin()
        write(writer, numbered(many))
        writer.rollback()
    assert writer.one("SELECT count(*) FROM every_type") == (many,)


def test_an_upsert_replaces_the_whole_row(writer: WriteConnection) -> None:
    for bulk in (1, BULK_ROWS_MIN[Kind.UPSERT]):
        rows = Rows()
        for number in range(bulk):
            rows.upsert(EVERY_TYPE, {"room": "!r", "number": number, "small": 5})
        written(writer, rows)
        written(writer, numbered(bulk))
        assert writer.rows('SELECT DISTINCT small, "user" FROM every_type') == [(None, "u")]


def test_keys_alone_are_upserted(writer: WriteConnection) -> None:
    for _ in range(2):
        rows = Rows()
        rows.upsert(KEYS_ONLY, {"name": "a"})
        written(writer, rows)
    assert writer.rows("SELECT * FROM keys_only") == [("a",)]


def test_an_insert_of_a_key_that_is_there_is_an_error(writer: WriteConnection) -> None:
    rows = Rows()
    rows.insert(KEYS_ONLY, {"name": "a"})
    written(writer, rows)
    writer.begin()
    with pytest.raises(StatementFailed) as failure:
        write(writer, rows)
    assert failure.value.sqlstate == "23505"
    with pytest.raises(StatementFailed):
        writer.commit()


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize(
    "column", [{"small": "1"}, {"flag": "t"}, {"user": 5}, {"texts": "abc"}, {"numbers": [1.5]}, {"data": "x"}]
)
def test_a_value_of_another_type_is_refused(
    writer: WriteConnection, column: dict[str, Any], bulk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_writer, "BULK_ROWS_MIN", dict.fromkeys(Kind, 1 if bulk else 1000))
    rows = Rows()
    rows.upsert(EVERY_TYPE, {"room": "!r", "number": 1, **column})
    writer.begin()
    with pytest.raises(BadRow, match="every_type"):
        write(writer, rows)
    if not bulk:
        with pytest.raises(BadRow, match="every_type"):
            small_statements(rows)


def test_rows_are_written_in_a_transaction_only(writer: WriteConnection) -> None:
    with pytest.raises(DatabaseError, match="transaction"):
        write(writer, numbered(1))
    assert write(writer, Rows()) == copy_writer.WriteStats(0, 0, 0)
