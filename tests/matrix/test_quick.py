"""Classes that are made quickly are what they were: frozen, equal, with the same parameters."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Any

import pytest

from annals.matrix.quick import changer, maker, quick


@quick
@dataclass(frozen=True, slots=True)
class Made:
    """With every kind of field."""

    name: str
    number: int = 3
    things: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Base:
    """Has fields that others inherit."""

    name: str


@dataclass(frozen=True, slots=True)
class Derived(Base):
    """Made by `maker`."""

    number: int = 3
    things: tuple[int, ...] = ()


make_derived = maker(Derived)


def test_fields_and_defaults() -> None:
    assert (Made("a").name, Made("a").number, Made("a").things) == ("a", 3, [])
    assert Made("a").things is not Made("a").things
    assert Made("a", 4, [5]) == Made(things=[5], number=4, name="a")
    assert make_derived("a", things=(1,)) == Derived("a", 3, (1,))
    assert hash(make_derived("a")) == hash(Derived("a"))
    assert repr(make_derived("a")) == "Derived(name='a', number=3, things=())"


@pytest.mark.parametrize("made", [Made("a"), make_derived("a")])
def test_nothing_can_be_set_afterwards(made: Any) -> None:
    assert type(made) in (Made, Derived)
    with pytest.raises(FrozenInstanceError):
        made.name = "b"
    with pytest.raises(FrozenInstanceError):
        del made.name


@pytest.mark.parametrize("made", [Made("a", 1, [2]), make_derived("a", 1)])
def test_copies(made: Any) -> None:
    changed = replace(made, number=9)
    assert (type(changed), changed.number, changed.name) == (type(made), 9, "a")
    assert copy.copy(made) == made


def test_changed_copies() -> None:
    change = changer(Made)
    for old in (Made("a"), Made("a", 1, [2])):
        for changes in ({}, {"name": "b"}, {"number": 0, "things": []}):
            changed = change(old, **changes)
            assert (type(changed), changed) == (Made, replace(old, **changes))
    things = [1]
    assert change(Made("a", 1, things), name="b").things is things
    with pytest.raises(FrozenInstanceError):
        change(Made("a"), number=2).name = "b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        change(Made("a"), nothing=1)
    old = Made("a")
    change(old, name="b")
    assert old == Made("a")


def test_copies_that_differ_in_certain_fields() -> None:
    with_number = changer(Made, "number")
    old = Made("a", 1, [2])
    changed = with_number(old, number=9)
    assert (type(changed), changed, changed.things is old.things) == (Made, Made("a", 9, [2]), True)
    for changes in ({}, {"number": 1, "name": "b"}):
        with pytest.raises(TypeError):
            with_number(old, **changes)


def test_what_is_missing_or_too_much_is_refused() -> None:
    arguments: tuple[Any, ...]
    for arguments in ((), ("a", 1, [], 4)):
        with pytest.raises(TypeError):
            Made(*arguments)
    with pytest.raises(TypeError):
        make_derived()


def test_classes_that_would_be_made_wrong_are_refused() -> None:
    @dataclass(frozen=True)
    class WithoutSlots:
        name: str

    @dataclass(frozen=True, slots=True)
    class DoesMore:
        name: str

        def __post_init__(self) -> None:
            """Would not be called."""

    @dataclass(frozen=True, slots=True)
    class ByKeyword:
        name: str = field(kw_only=True)

    for cls in (WithoutSlots, DoesMore, ByKeyword):
        with pytest.raises(TypeError):
            quick(cls)
        with pytest.raises(TypeError):
            changer(cls)
