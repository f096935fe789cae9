"""Reading the tables of rules: a row is `set-up … | expected rule in versions 10 and 11 | in version 12`."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from annals.matrix.auth_rules import Rejection


@dataclass(frozen=True)
class Row:
    """One row of a table for one room version; `rule` is the rule that rejects, or "ok"."""

    version: str
    words: tuple[str, ...]
    rule: str


def rows(table: str) -> pytest.MarkDecorator:
    """Each row for each version. The expected rule stands last: once if "ok" or the same, else one for 10-11 and 12."""
    found = []
    for line in filter(None, (line.partition("#")[0].strip() for line in table.splitlines())):
        words, _, expected = line.rpartition("|")
        older, *newer = expected.split()
        for version in ("10", "11", "12"):
            rule = newer[0] if newer and version == "12" else older
            found.append(
                pytest.param(Row(version, tuple(words.split()), rule), id=f"v{version}: {' '.join(line.split())}")
            )
    return pytest.mark.parametrize("row", found)


def rule_of(rejection: Rejection | None) -> str:
    """The number of the rule that rejected, "ok" for none."""
    return "ok" if rejection is None else rejection.rule
