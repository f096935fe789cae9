"""The identifier grammars of the appendices."""

from __future__ import annotations

import pytest

from annals.matrix.errors import InvalidIdentifier
from annals.matrix.identifiers import (
    domain_of,
    is_event_id,
    is_hashed_room_id,
    is_namespaced,
    is_new_user_id,
    is_room_alias,
    is_room_id,
    is_server_name,
    is_user_id,
)


@pytest.mark.parametrize(
    "name",
    [
        *("matrix.org", "matrix.org:8888", "1.2.3.4", "1.2.3.4:1234", "[1234:5678::abcd]", "[1234:5678::abcd]:5678"),
        *("localhost", "HS1", "a" * 255, "[::ffff:1.2.3.4]:0", "1.2.3", "1.2.3.4.5"),
    ],
)
def test_server_names(name: str) -> None:
    assert is_server_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", ":80", "a:", "a:b", "a:123456", "a b", "a/b", "é.org", "a_b", "a\n", "a\0", "256.1.1.1", "[1::2::3]"),
        *("[]", "[::1", "::1", "[1.2.3.4]", "a:80:80", "[g::]", "a:1\n", "a:\u0661", "a" * 256, "@a:b", "\ud800"),
    ],
)
def test_no_server_names(name: str) -> None:
    assert not is_server_name(name)


CASES = """
    @alice:a.example         event new
    @a.b_c=d-e/f+g:a:80      event new
    @Alice:a                 event -
    @a!"#$%&'()*,:a          event -
    @:a                      event -
    @ü:a                     event -
    alice:a                  -     -
    @alice                   -     -
    @alice:                  -     -
    @alice:a:b               -     -
    @alice:a_b               -     -
    !alice:a                 -     -
"""


@pytest.mark.parametrize("line", [line for line in CASES.splitlines() if line.strip()])
def test_user_ids(line: str) -> None:
    user_id, *allowed = line.split()
    answers = is_user_id(user_id), is_new_user_id(user_id)
    assert answers == tuple(word != "-" for word in allowed)


def test_historical_user_ids_may_hold_any_character_but_colon_nul_and_surrogates() -> None:
    assert is_user_id("@ \n\x01🂡:a")
    assert not is_user_id("@a\0b:a")
    assert not is_user_id("@\ud800:a")
    assert not is_new_user_id("@a\n:a")


def test_lengths_are_counted_in_bytes() -> None:
    assert is_user_id("@" + "a" * 252 + ":b")
    assert not is_user_id("@" + "a" * 253 + ":b")
    assert is_room_alias("#" + "é" * 126 + ":b")
    assert not is_room_alias("#" + "é" * 127 + ":b")
    assert is_room_id("!" + "é" * 127)
    assert not is_room_id("!" + "é" * 128)


def test_room_ids_are_opaque() -> None:
    hashed = "!Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ"
    assert all(is_room_id(room_id) for room_id in (hashed, "!a:b", "!a:b:c", "!a b"))
    assert not any(is_room_id(room_id) for room_id in ("", "!", "a", "#a:b", "!a\0b"))
    assert is_hashed_room_id(hashed)
    assert not any(
        is_hashed_room_id(room_id) for room_id in (hashed[:-1], hashed + "A", hashed + ":b", "!a:b", "$" + hashed[1:])
    )
    assert not is_hashed_room_id(hashed[:-1] + "\n")


def test_no_server_is_found_in_room_or_event_ids() -> None:
    for identifier in ("!a:b", "$a:b", "", "alice:b", "@alice"):
        with pytest.raises(InvalidIdentifier):
            domain_of(identifier)


def test_domains_of_user_ids_and_aliases() -> None:
    assert (domain_of("@a:b:80"), domain_of("#:[::1]:80")) == ("b:80", "[::1]:80")


def test_other_grammars() -> None:
    assert is_event_id("$a")
    assert not any(map(is_event_id, ("$", "a", "", "!a", "$" + "a" * 255)))
    assert is_namespaced("m.room-x_1")
    assert not any(map(is_namespaced, ("", "1a", "A", "m.Room", "a\n", "a" * 256)))
