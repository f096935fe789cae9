"""Reading the tables of rules: a row is `set-up … | expected rules`.

The first expected rule is for versions 1 to 11, numbered as in versions 10 and 11; a second one is that of version 12.
Where the verdict, not only the number, is another in some versions, `1-6=4.8` says so, numbered in the same way. What
number a rule has in an older version stands here, as in the texts, and is not taken from the code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from annals.matrix.auth_rules import Rejection
from annals.matrix.room_versions import ROOM_VERSIONS
from tests.support.at_once import Test, at_once

VERSIONS = tuple(ROOM_VERSIONS)

# By the last version that it holds for: the number in versions 10 and 11 -> the number there; longest prefix first.
_POWER_LEVELS_BEFORE_10 = {f"9.{number}": f"9.{number - 2}" for number in range(3, 11)}
_MEMBER_BEFORE_8 = {"4.3.7": "4.2.6", "4.3.6": "4.2.5", **{f"4.{number}": f"4.{number - 1}" for number in range(3, 9)}}
_MEMBER_BEFORE_7 = _MEMBER_BEFORE_8 | {"4.8": "4.6"}
_NUMBERS = {
    5: _POWER_LEVELS_BEFORE_10 | _MEMBER_BEFORE_7,
    6: _POWER_LEVELS_BEFORE_10 | _MEMBER_BEFORE_7,
    7: _POWER_LEVELS_BEFORE_10 | _MEMBER_BEFORE_8,
    9: _POWER_LEVELS_BEFORE_10,
    11: {},
}


@dataclass(frozen=True)
class Row:
    """One row of a table for one room version; `rule` is the rule that rejects, or "ok"."""

    version: str
    words: tuple[str, ...]
    rule: str


def rows(table: str) -> Callable[[Callable[[Row], str]], Test]:
    """A test for each row: what is decorated returns the rule, and in each version it is the expected one."""
    lines = [line for text in table.splitlines() if (line := " ".join(text.partition("#")[0].split()))]

    def decorate(judge: Callable[[Row], str]) -> Test:
        @pytest.mark.parametrize("line", lines)
        def test(line: str) -> None:
            words, _, expected = line.rpartition("|")
            found = [Row(v, tuple(words.split()), _expected(expected.split(), int(v))) for v in VERSIONS]
            assert {row.version: judge(row) for row in found} == {row.version: row.rule for row in found}

        test.__name__ = judge.__name__
        return test

    return decorate


def _expected(columns: list[str], version: int) -> str:
    rules = [column for column in columns if "=" not in column]
    if version == 12:
        return rules[-1]
    for versions, rule in (column.split("=") for column in columns if "=" in column):
        first, last = map(int, versions.split("-"))
        if first <= version <= last:
            return number_in(rule, version)
    return number_in(rules[0], version)


def number_in(rule: str, version: int) -> str:
    """The number, in a version up to 11, of a rule numbered as in versions 10 and 11."""
    numbers = _NUMBERS[min(last for last in _NUMBERS if last >= version)]
    for prefix in sorted(numbers, key=len, reverse=True):
        if rule == prefix or rule.startswith(prefix + "."):
            rule = numbers[prefix] + rule.removeprefix(prefix)
            break
    section, dot, rest = rule.partition(".")
    # Up to version 5, m.room.aliases is rule 4, and what follows stands one further down.
    if version <= 5 and section.isdigit() and int(section) >= 4:
        section = str(int(section) + 1)
    return section + dot + rest


def rule_of(rejection: Rejection | None) -> str:
    """The number of the rule that rejected, "ok" for none."""
    return "ok" if rejection is None else rejection.rule


def by_version(older: str, newest: str) -> Callable[[Test], Test]:
    """(version, rule), all in one test, for a rule that has one number in versions 1 to 11 and another in 12."""
    return at_once(("version", "rule"), [(v, newest if v == "12" else older) for v in VERSIONS])


#: One test for all versions.
in_every_version = at_once("version", VERSIONS)
