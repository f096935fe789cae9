"""Globs: held against a naive matcher, and their work bounded."""

from __future__ import annotations

from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.globs import PATTERN_CHARACTERS_MAX, compile_glob, compile_literal


def naive(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(naive(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and naive(pattern[1:], text[1:])


def is_word(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())


def boundaries(text: str) -> list[int]:
    return [
        place
        for place in range(len(text) + 1)
        if place in (0, len(text)) or not (is_word(text[place - 1]) and is_word(text[place]))
    ]


def naive_words(pattern: str, text: str) -> bool:
    places = boundaries(text)
    return any(naive(pattern, text[start:end]) for start in places for end in places if start <= end)


patterns = st.text("ab*? ", max_size=7)
values = st.text("ab -é\n", max_size=9)


@given(patterns, values)
def test_whole_values(pattern: str, text: str) -> None:
    assert compile_glob(pattern).matches(text) == naive(pattern, text)


@given(patterns, values)
def test_words(pattern: str, text: str) -> None:
    assert compile_glob(pattern, words=True).matches(text) == naive_words(pattern, text)


@given(patterns, values)
def test_literals(name: str, text: str) -> None:
    places = boundaries(text)
    assert compile_literal(name).matches(text) == any(text[a:b] == name for a in places for b in places if a <= b)


@pytest.mark.parametrize(
    ("pattern", "text", "whole", "words"),
    [
        ("lunc?*", "Lunch plans", True, True),
        ("lunc?*", "LUNCH", True, True),
        ("lunc?*", " lunch", False, True),
        ("lunc?*", "lunc", False, False),
        ("ex*ple", "An example event.", False, True),
        ("ex*ple", "exple", True, True),
        ("ex*ple", "An exciting triple-whammy", False, True),
        ("cake", "pancakes", False, False),
        ("cake", "a_cake", False, False),
        ("@room", "hello@room", False, True),
        (".*", ".x", True, True),
        ("[a-z]", "b", False, False),
        ("a\\*", "a\\b", True, True),
    ],
)
def test_examples(pattern: str, text: str, whole: bool, words: bool) -> None:
    assert compile_glob(pattern).matches(text) is whole
    assert compile_glob(pattern, words=True).matches(text) is words


def test_too_long_patterns_match_nothing() -> None:
    longest = "a" * PATTERN_CHARACTERS_MAX
    assert compile_glob(longest).matches(longest)
    assert not compile_glob(longest + "a").matches(longest + "a")
    assert not compile_glob("*" * (PATTERN_CHARACTERS_MAX + 1)).matches("a")


@pytest.mark.parametrize("pattern", ["*a" * 120 + "b", "a?" * 120 + "b", "*" + "?" * 120 + "b", "*a?" * 80 + "*b"])
@pytest.mark.parametrize("words", [False, True])
def test_no_text_makes_a_pattern_slow(pattern: str, words: bool) -> None:
    text = "a" * 60_000 if not words else "a " * 30_000
    glob = compile_glob(pattern, words=words)
    begin = thread_time()
    assert not glob.matches(text)
    assert thread_time() - begin < 2.0
