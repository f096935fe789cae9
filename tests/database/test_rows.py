"""Collapsing: a batch of changes leaves the rows that one change at a time leaves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Column, MetaData, Table, Text

from annals.database import copy_writer
from annals.database.errors import BadRow
from annals.database.rows import Kind, Rows
from annals.database.write_connection import WriteConnection
from tests.support.postgres import PostgresServer
from tests.support.tables import EVERY_TYPE

PETS = Table(
    "pets",
    MetaData(),
    Column("owner", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text),
    Column("age", BigInteger),
)

# One change: kind, key, columns.
Change = tuple[str, tuple[str, int], dict[str, Any]]
KINDS = ["insert", "upsert", "update", "delete"]

# Few keys, so that the changes of one collide.
keys = st.tuples(st.sampled_from(["a", "b'"]), st.just(1))
values = st.fixed_dictionaries(
    {}, optional={"name": st.none() | st.text("xy\\\t'", max_size=3), "age": st.integers(0, 9)}
)
changes = st.lists(st.tuples(st.sampled_from(KINDS), keys, values), min_size=4, max_size=25)


@pytest.fixture(scope="module")
def pets(postgres: PostgresServer) -> Iterator[tuple[WriteConnection, psycopg2.extensions.cursor]]:
    """A writer into one table of pets, and a cursor into another, for the oracle."""
    url = postgres.fresh_database()
    writer = WriteConnection(url)
    oracle = psycopg2.connect(url)
    oracle.autocommit = True
    for schema in ("public", "oracle"):
        writer.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        writer.execute(
            f"CREATE TABLE {schema}.pets"
            " (owner text, number bigint, name text, age bigint, PRIMARY KEY (owner, number))"
        )
    yield writer, oracle.cursor()
    writer.close()
    oracle.close()
    postgres.drop_database(url)


def apply_one(cursor: psycopg2.extensions.cursor, change: Change) -> None:
    """The oracle: what each kind of change means, as plain SQL."""
    kind, (owner, number), columns = change
    row = (owner, number, columns.get("name"), columns.get("age"))
    if kind == "insert":
        cursor.execute("INSERT INTO oracle.pets VALUES (%s, %s, %s, %s)", row)
    elif kind == "upsert":
        cursor.execute("DELETE FROM oracle.pets WHERE owner = %s AND number = %s", (owner, number))
        cursor.execute("INSERT INTO oracle.pets VALUES (%s, %s, %s, %s)", row)
    elif kind == "delete":
        cursor.execute("DELETE FROM oracle.pets WHERE owner = %s AND number = %s", (owner, number))
    else:
        for name, value in columns.items():
            cursor.execute(
                f"UPDATE oracle.pets SET {name} = %s WHERE owner = %s AND number = %s", (value, owner, number)
            )


def collected(part: list[Change], by_values: bool) -> Rows:
    rows = Rows()
    for kind, (owner, number), columns in part:
        key = {"owner": owner, "number": number}
        if kind == "insert" and by_values:
            rows.insert_values(PETS, (owner, number, columns.get("name"), columns.get("age")))
        elif kind == "upsert" and by_values:
            rows.upsert_values(PETS, (owner, number, columns.get("name"), columns.get("age")))
        elif kind == "delete" and by_values:
            rows.delete_key(PETS, owner, number)
        elif kind == "insert":
            rows.insert(PETS, {**key, **columns})
        elif kind == "upsert":
            rows.upsert(PETS, {**key, **columns})
        elif kind == "delete":
            rows.delete(PETS, key)
        else:
            rows.update(PETS, key, columns)
    return rows


def with_true_inserts(drawn: list[Change], there: set[tuple[str, int]]) -> list[Change]:
    """An insert of a key that is there becomes an upsert: `insert` promises that the key is new."""
    result: list[Change] = []
    for kind, key, columns in drawn:
        result.append(("upsert" if kind == "insert" and key in there else kind, key, columns))
        if kind in ("insert", "upsert"):
            there.add(key)
        elif kind == "delete":
            there.discard(key)
    return result


@pytest.mark.parametrize("bulk", [False, True])
def test_batches_leave_what_single_changes_leave(
    pets: tuple[WriteConnection, psycopg2.extensions.cursor], bulk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, oracle = pets
    monkeypatch.setattr(copy_writer, "BULK_ROWS_MIN", dict.fromkeys(Kind, 1 if bulk else 1000))

    @given(changes, st.lists(st.integers(0, 25), max_size=3), st.integers(0, 25), st.booleans())
    def check(drawn: list[Change], cuts: list[int], merged_at: int, by_values: bool) -> None:
        done = with_true_inserts(drawn, set())
        writer.execute("TRUNCATE public.pets, oracle.pets")
        for change in done:
            apply_one(oracle, change)
        edges = [0, *sorted(cuts), len(done)]
        for start, end in pairwise(edges):
            part = done[start:end]
            rows = collected(part[:merged_at], by_values)
            rows.merge(collected(part[merged_at:], by_values))
            writer.begin()
            copy_writer.write(writer, rows)
            writer.commit()
        oracle.execute("SELECT * FROM oracle.pets ORDER BY owner, number")
        assert writer.rows("SELECT * FROM public.pets ORDER BY owner, number") == oracle.fetchall()

    check()


@pytest.mark.parametrize("by_values", [False, True])
@pytest.mark.parametrize("merged_at", [0, 1, 2, 3, 4])
def test_every_sequence_of_changes_of_a_key_collapses_rightly(
    pets: tuple[WriteConnection, psycopg2.extensions.cursor], merged_at: int, by_values: bool
) -> None:
    """All sequences up to four, on a key that is there and on one that is not, merged at every place."""
    writer, oracle = pets
    first, second = Rows(), Rows()
    writer.execute("TRUNCATE public.pets, oracle.pets")
    sequences = [kinds for length in range(1, 5) for kinds in product(KINDS, repeat=length)]
    for number, (kinds, there) in enumerate(product(sequences, [False, True])):
        key = ("a", number)
        if there:
            writer.execute("INSERT INTO public.pets VALUES ('a', %s, 'old', 99)", (number,))
            apply_one(oracle, ("insert", key, {"name": "old", "age": 99}))
        # Each change sets another column than the one before, so that what it keeps and what it clears shows.
        drawn = [(kind, key, {"name": kind} if at % 2 else {"age": at}) for at, kind in enumerate(kinds)]
        done = with_true_inserts(drawn, {key} if there else set())
        for change in done:
            apply_one(oracle, change)
        first.merge(collected(done[:merged_at], by_values))
        second.merge(collected(done[merged_at:], by_values))
    first.merge(second)
    writer.begin()
    copy_writer.write(writer, first)
    writer.commit()
    oracle.execute("SELECT * FROM oracle.pets ORDER BY owner, number")
    assert writer.rows("SELECT * FROM public.pets ORDER BY owner, number") == oracle.fetchall()


def test_a_key_that_is_made_and_removed_needs_no_write() -> None:
    rows = Rows()
    rows.insert(PETS, {"owner": "a", "number": 1, "name": "Rex"})
    rows.update(PETS, {"owner": "a", "number": 1}, {"age": 3})
    assert [(kind, row) for _, kind, _, row in rows.changes()] == [
        (Kind.INSERT, {"owner": "a", "number": 1, "name": "Rex", "age": 3})
    ]
    rows.delete(PETS, {"owner": "a", "number": 1})
    assert rows.is_empty()
    assert rows.counts() == {}


def test_values_are_a_row() -> None:
    rows, by_name = Rows(), Rows()
    rows.insert_values(PETS, ("a", 1, "Rex", None))
    by_name.insert(PETS, {"owner": "a", "number": 1, "name": "Rex", "age": None})
    assert list(rows.changes()) == list(by_name.changes())
    assert rows.counts() == by_name.counts()
    with pytest.raises(BadRow):
        rows.insert_values(PETS, ("a", 1, "Rex", None))
    with pytest.raises(BadRow):
        rows.insert_values(PETS, ("a", 2, "Rex"))
    with pytest.raises(BadRow):
        rows.delete_key(PETS, "a")
    rows.delete_key(PETS, "a", 1)
    assert rows.is_empty()


def test_a_row_given_is_not_changed() -> None:
    rows, row = Rows(), {"owner": "a", "number": 1, "name": "Rex"}
    rows.insert(PETS, row)
    rows.update(PETS, {"owner": "a", "number": 1}, {"name": "Max"})
    assert row["name"] == "Rex"


def test_a_key_inserted_twice_is_refused() -> None:
    rows = Rows()
    rows.insert(PETS, {"owner": "a", "number": 1})
    with pytest.raises(BadRow):
        rows.insert(PETS, {"owner": "a", "number": 1})
    rows.upsert(PETS, {"owner": "a", "number": 2})
    with pytest.raises(BadRow):
        rows.insert(PETS, {"owner": "a", "number": 2})


def test_counts_are_by_table_in_rows_and_bytes() -> None:
    rows = Rows()
    rows.upsert(PETS, {"owner": "ab", "number": 1, "name": "x" * 100, "age": None})
    rows.delete(PETS, {"owner": "cd", "number": 1})
    counts = rows.counts()["pets"]
    assert counts.rows == 2
    assert 100 <= counts.bytes <= 150


@pytest.mark.parametrize(
    "wrong",
    [
        lambda rows: rows.insert(PETS, {"owner": "a", "number": 1, "colour": "red"}),
        lambda rows: rows.insert(PETS, {"owner": "a"}),
        lambda rows: rows.update(PETS, {"owner": "a"}, {"age": 1}),
        lambda rows: rows.update(PETS, {"owner": "a", "number": 1}, {"number": 2}),
        lambda rows: rows.update(PETS, {"owner": "a", "number": 1}, {"colour": "red"}),
        lambda rows: rows.delete(PETS, {"owner": "a", "number": 1, "age": 3}),
        lambda rows: rows.upsert(Table("keyless", MetaData(), Column("a", Text)), {"a": "x"}),
    ],
)
def test_what_does_not_fit_the_table_is_refused_when_given(wrong: Any) -> None:
    with pytest.raises(BadRow):
        wrong(Rows())


def test_merge_keeps_tables_apart() -> None:
    first, second = Rows(), Rows()
    first.upsert(PETS, {"owner": "a", "number": 1})
    second.upsert(EVERY_TYPE, {"room": "!a", "number": 1})
    first.merge(second)
    assert set(first.counts()) == {"pets", "every_type"}
