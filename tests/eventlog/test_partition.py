from __future__ import annotations

import pytest

from annals.eventlog.partition import partition_of


def test_known_values_never_change() -> None:
    # Counted once with sha256sum: a change here would scatter every existing log.
    assert [partition_of(key, 8) for key in ("!room:a", "@alice:a", "")] == [0, 2, 5]


def test_bytes_and_text_agree() -> None:
    assert partition_of("!é:a", 1000) == partition_of("!é:a".encode(), 1000)


def test_one_partition_takes_all() -> None:
    assert {partition_of(str(n), 1) for n in range(20)} == {0}


def test_keys_spread() -> None:
    assert {partition_of(f"!{n}:a", 8) for n in range(200)} == set(range(8))


def test_no_partition_is_an_error() -> None:
    with pytest.raises(ValueError):
        partition_of("x", 0)
