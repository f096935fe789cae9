"""Frozen dataclasses that are made quickly.

The `__init__` of a frozen dataclass goes through `object.__setattr__` for each field, which takes several times as long
as all the rest of making it. Events, verdicts and views are made by the hundred thousand. Here an instance is, until it
is whole, of a class of the same layout that is not frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

T = TypeVar("T")

#: What `instance.__class__ = other` does, past a `__setattr__` that forbids it.
_become = object.__dict__["__class__"].__set__


def quick(cls: type[T]) -> type[T]:
    """The same class, with a quick `__init__`. For dataclasses with `frozen=True, slots=True` and no `__post_init__`,
    of which nothing inherits the `__init__`; TypeError for others."""
    cls.__init__ = _function(cls, "__init__", ["self"], "become(self, Open)", [])  # type: ignore[method-assign]
    return cls


def maker(cls: type[T]) -> Callable[..., T]:
    """A function that is called as the class is, for a class of another package that `quick` could be put on."""
    make: Callable[..., T] = _function(cls, "make", [], "self = new(Open)", ["return self"])
    return make


def changer(cls: type[T], *changed: str) -> Callable[..., T]:
    """A function that does what `dataclasses.replace` does with instances of this class, which `quick` takes, too.
    With `changed`, one that takes these fields, all of them, and no others: it is twice as quick."""
    space, names = _space(cls), cls.__dict__["__dataclass_fields__"]
    if changed:
        parameters = ["old", "*", *changed]
        values = {name: name if name in changed else f"old.{name}" for name in names}
    else:
        parameters = ["old", "*", *(f"{name}=MISSING" for name in names)]
        values = {name: f"old.{name} if {name} is MISSING else {name}" for name in names}
    body = ["self = new(Open)", *(f"self.{name} = {value}" for name, value in values.items())]
    change: Callable[..., T] = _defined("change", parameters, [*body, "self.__class__ = Frozen", "return self"], space)
    return change


def _function(cls: type, name: str, parameters: list[str], begin: str, end: list[str]) -> Any:
    space = _space(cls)
    body = [begin]
    for field in fields(cls):
        parameters.append(_parameter(field, space))
        body.append(f"self.{field.name} = {_value(field, space)}")
    return _defined(name, parameters, [*body, "self.__class__ = Frozen", *end], space)


def _space(cls: type) -> dict[str, Any]:
    """The names that a function for this class has at hand; TypeError where none can be made."""
    if "__slots__" not in cls.__dict__ or hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__} has no slots, or does something after __init__")
    for field in fields(cls):
        if not field.init or field.kw_only:
            raise TypeError(f"{cls.__name__}.{field.name} is no ordinary field")
    made = {"become": _become, "new": object.__new__, "Open": _open_twin(cls), "Frozen": cls}
    return {**made, "MISSING": MISSING}


def _defined(name: str, parameters: list[str], body: list[str], space: dict[str, Any]) -> Any:
    # The text holds names of fields only.
    exec(f"def {name}({', '.join(parameters)}):\n    " + "\n    ".join(body), space)  # noqa: S102
    return space[name]


def _open_twin(cls: type) -> type:
    """A class with the same slots, of which the attributes can be set."""
    # Both: a class that inherits one of them from Python code takes the long way for the other, too.
    plain = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(cls.__name__, cls.__bases__, {"__slots__": cls.__dict__["__slots__"], **plain})


def _parameter(field: Field[Any], space: dict[str, Any]) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return field.name
    space[f"default_{field.name}"] = field.default
    return f"{field.name}=default_{field.name}"


def _value(field: Field[Any], space: dict[str, Any]) -> str:
    if field.default_factory is MISSING:
        return field.name
    space[f"make_{field.name}"] = field.default_factory
    return f"make_{field.name}() if {field.name} is MISSING else {field.name}"
