"""The generated line of a row is what its values' own encoders write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import ARRAY, BigInteger, Boolean, LargeBinary, Text

from annals.database.copy_lines import LineOf, line_of
from annals.database.encoding import encoding_of
from annals.database.errors import BadRow

COLUMNS: list[tuple[str, Any]] = [
    ("name", Text()),
    ("other", Text()),
    ("number", BigInteger()),
    ("flag", Boolean()),
    ("data", LargeBinary()),
    ("names", ARRAY(Text())),
    ("numbers", ARRAY(BigInteger())),
]
LINE = line_of(COLUMNS)
REQUIRING = line_of(COLUMNS, [name for name, _ in COLUMNS])

FULL = {"name": "a", "other": "b", "number": 1, "flag": True, "data": b"d", "names": ("n",), "numbers": [1]}

# Plain texts nearly always, as in the tables: the others take another way through the function.
texts = st.text("abc", max_size=5) | st.text("ab\\\n\r\t\"'{}\x00\x01é\ud800", max_size=5)
values: dict[str, Any] = {
    "name": texts | st.none(),
    "other": texts | st.none(),
    "number": st.integers(-(1 << 63), (1 << 63) - 1) | st.none(),
    "flag": st.booleans() | st.none(),
    "data": st.binary(max_size=4) | st.none(),
    "names": st.lists(texts | st.none(), max_size=3).map(tuple) | st.none(),
    "numbers": st.lists(st.integers(0, 9), max_size=3) | st.none(),
}


@pytest.mark.parametrize("line", [LINE, REQUIRING], ids=["any", "required"])
@given(row=st.fixed_dictionaries(values) | st.fixed_dictionaries({}, optional=values))
def test_a_line_is_its_values_encoded(line: LineOf, row: dict[str, Any]) -> None:
    expected = "\t".join(encoding_of(kind).copy(row.get(name)) for name, kind in COLUMNS)
    assert line(row) == line(tuple(row.get(name) for name, _ in COLUMNS)) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("name", 1), ("name", b"x"), ("number", "1"), ("flag", 1), ("data", "x"), ("names", "abc"), ("names", (1,))],
)
def test_a_value_of_another_type_is_refused(name: str, value: Any) -> None:
    row = dict.fromkeys(values) | {name: value}
    for line, others in ((LINE, row), (REQUIRING, FULL | row), (REQUIRING, FULL | {name: value})):
        with pytest.raises((TypeError, AttributeError)):
            line(others)


@pytest.mark.parametrize(
    "names", [(), ("",), ("", ""), ("a,b", "{}"), ('"',), ("\\",), ("\t", "\ud800"), (None, "a"), ["a"]]
)
def test_arrays_that_may_be_required(names: Any) -> None:
    row = FULL | {"names": names}
    assert REQUIRING(row) == LINE(row) == "\t".join(encoding_of(kind).copy(row[name]) for name, kind in COLUMNS)


def test_a_column_that_is_not_there_is_refused() -> None:
    row: dict[str, Any] = dict.fromkeys(values)
    del row["name"]
    with pytest.raises(BadRow):
        LINE(row | {"nmae": "x"})
