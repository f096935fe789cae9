"""Server ACLs: what each key of m.room.server_acl says, and that nobody's patterns cost more than their length."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.server_acl import ServerAcl, host_of


def allows(content: dict[str, Any] | None, server_name: str) -> bool:
    acl = ServerAcl.of(content)
    return acl is None or acl.allows(server_name)


def test_a_room_without_acl_is_open_and_one_with_an_empty_acl_closed() -> None:
    assert allows(None, "a.example")
    assert not allows({}, "a.example")


@pytest.mark.parametrize(
    ("content", "server_name", "expected"),
    [
        ({"allow": ["*"]}, "a.example", True),
        ({"allow": ["*"], "deny": ["*.evil.example"]}, "x.evil.example", False),
        ({"allow": ["*"], "deny": ["*.evil.example"]}, "X.EVIL.example", False),
        ({"allow": ["*"], "deny": ["*.EVIL.example"]}, "x.evil.example:8448", False),
        ({"allow": ["*"], "deny": ["*.evil.example"]}, "evil.example", True),
        ({"allow": ["*"], "deny": ["evil.example"]}, "evil.example:443", False),
        ({"allow": ["a?.example"]}, "ab.example", True),
        ({"allow": ["a?.example"]}, "a.example", False),
        ({"allow": ["*b?d*"]}, "abcd.example", True),
        ({"allow": ["a.example"]}, "b.example", False),
        ({"allow": ["*"], "allow_ip_literals": False}, "1.2.3.4:80", False),
        ({"allow": ["*"], "allow_ip_literals": False}, "[::1]", False),
        ({"allow": ["*"], "allow_ip_literals": False}, "[::1]:443", False),
        ({"allow": ["*"], "allow_ip_literals": False}, "1.2.3.4.example", True),
        ({"allow": ["*"], "allow_ip_literals": "no"}, "1.2.3.4", True),
        ({"allow": ["*"], "deny": ["[::1]"]}, "[::1]:443", False),
        ({"allow": "*"}, "a.example", False),
        ({"allow": [1, None, "*"]}, "a.example", True),
        ({"allow": ["*"], "deny": {"*": True}}, "a.example", True),
    ],
)
def test_rules(content: dict[str, Any], server_name: str, expected: bool) -> None:
    assert allows(content, server_name) is expected


def test_ports_are_no_part_of_the_name() -> None:
    assert [host_of(name) for name in ("a:1", "a", "[::1]:8", "[::1]", "1.2.3.4:9")] == [
        "a",
        "a",
        "[::1]",
        "[::1]",
        "1.2.3.4",
    ]


@given(st.text("ab?*", max_size=8), st.text("ab", max_size=8))
def test_globs_match_as_expressions_do(glob: str, host: str) -> None:
    expression = "".join({"*": ".*", "?": "."}.get(character, character) for character in glob)
    assert allows({"allow": [glob]}, host) is (re.fullmatch(expression, host) is not None)
