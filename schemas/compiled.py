"""Encoders and decoders as generated Python: one function a fact, without a dict or a look at a schema on the way.

Measured: fastavro, fed by dicts, takes 24 µs to write a verdict and 21 µs to read one, dicts not counted; most of it
goes into unions. These functions write and read the same bytes (tests hold them equal to fastavro's) in a few µs.
They know the newest version only: records of older ones go through fastavro's schema resolution.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

from annals.schemas import varint
from annals.schemas.errors import Undecodable, Unencodable
from annals.schemas.shapes import ArrayOf, FieldOf, Primitive, RecordOf, Shape, UnionOf

Encoder = Callable[[Any], bytes]
Decoder = Callable[[bytes], Any]

#: How many fields without a value are passed at once.
_GROUP_FIELDS = 4

_COMMON: dict[str, Any] = {
    "new": object.__new__,
    "SHORT": varint.SHORT,
    "join": b"".join,
    "write_long": varint.write_long,
    "read_long": varint.read_long,
    "read_length": varint.read_length,
    "read_block": varint.read_block,
    "FLAG": {False: b"\0", True: b"\1"},
    "FLAGS": (False, True),
    "Unencodable": Unencodable,
    "Undecodable": Undecodable,
}


def encoder_of(record: RecordOf, prefix: bytes) -> Encoder:
    """The function that writes a fact of this shape behind `prefix`. It trusts types no further than it must."""
    source = _Source()
    source.line("def encode(fact):")
    source.indent += 1
    pieces = _write(source, record, "fact")
    source.line(f"return join(({source.constant(prefix)}, {', '.join(pieces)}))")
    encode: Encoder = source.function("encode")
    return encode


def decoder_of(record: RecordOf, prefix: bytes, unread: Collection[str] = ()) -> Decoder:
    """The function that reads a fact of this shape. IndexError, UnicodeDecodeError or Undecodable where it is torn.

    Fields whose names are in `unread`, of the fact or of a record in it, are passed over: what is made has no such
    attribute (AttributeError where one is asked for).
    """
    source = _Source(unread)
    source.line("def decode(b):")
    source.indent += 1
    source.line(f"i = {len(prefix)}")
    fact = _read(source, record)
    source.line("if i != len(b): raise Undecodable('the body is torn, or longer than its schema says')")
    source.line(f"return {fact}")
    decode: Decoder = source.function("decode")
    return decode


class _Source:
    """A function in the making: its lines, the constants it uses, and fresh names."""

    def __init__(self, unread: Collection[str] = ()) -> None:
        self.unread = unread
        self.indent = 0
        self._lines: list[str] = []
        self._names = itertools.count()
        self._constants: dict[str, Any] = {}

    def line(self, text: str) -> None:
        self._lines.append("    " * self.indent + text)

    def name(self, letter: str = "v") -> str:
        return f"{letter}{next(self._names)}"

    def constant(self, value: Any) -> str:
        name = self.name("C")
        self._constants[name] = value
        return name

    def function(self, name: str) -> Any:
        namespace = {**_COMMON, **self._constants}
        exec("\n".join(self._lines), namespace)  # noqa: S102 - the text above is made of our own dataclasses only
        return namespace[name]


# Writing: each function emits what must be computed first and returns expressions for the pieces, in order.


def _write(source: _Source, shape: Shape, value: str) -> list[str]:
    match shape:
        case Primitive("long"):
            return [_write_number(source, value)]
        case Primitive("boolean"):
            return [f"FLAG[{value}]"]
        case Primitive(avro):
            data = source.name()
            source.line(f"{data} = {value}.encode()" if avro == "string" else f"{data} = {value}")
            return [_write_number(source, f"len({data})"), data]
        case RecordOf(_, _, fields):
            record = source.name()
            source.line(f"{record} = {value}")
            return [piece for field in fields for piece in _write(source, field.shape, f"{record}.{field.name}")]
        case ArrayOf(item):
            return [_write_array(source, item, value)]
        case UnionOf():
            return [_write_union(source, shape, value)]


def _write_number(source: _Source, value: str) -> str:
    number, data = source.name(), source.name()
    source.line(f"{number} = {value}")
    source.line(f"{data} = SHORT[{number}] if 0 <= {number} < {varint.SHORT_LIMIT} else write_long({number})")
    return data


def _write_array(source: _Source, item: Shape, value: str) -> str:
    items, pieces, data, one = source.name(), source.name(), source.name(), source.name()
    source.line(f"{items} = {value}")
    source.line(f"if not {items}: {data} = SHORT[0]")
    source.line("else:")
    source.indent += 1
    count = _write_number(source, f"len({items})")
    source.line(f"{pieces} = [{count}]")
    source.line(f"for {one} in {items}:")
    source.indent += 1
    source.line(f"{pieces} += ({', '.join(_write(source, item, one))},)")
    source.indent -= 1
    source.line(f"{pieces}.append(SHORT[0])")
    source.line(f"{data} = join({pieces})")
    source.indent -= 1
    return data


def _write_union(source: _Source, union: UnionOf, value: str) -> str:
    chosen, data = source.name(), source.name()
    source.line(f"{chosen} = {value}")
    if union.optional:
        source.line(f"if {chosen} is None: {data} = SHORT[0]")
        source.line("else:")
        source.indent += 1
    for index, branch in enumerate(union.branches):
        if len(union.branches) > 1:
            source.line(f"{'elif' if index else 'if'} {chosen}.__class__ is {source.constant(_class_of(branch))}:")
            source.indent += 1
        pieces = _write(source, branch, chosen)
        source.line(f"{data} = join((SHORT[{index + union.optional}], {', '.join(pieces)}))")
        source.indent -= len(union.branches) > 1
    if len(union.branches) > 1:
        source.line(f"else: raise Unencodable(f'no branch for a {{type({chosen}).__name__}}')")
    source.indent -= union.optional
    return data


def _class_of(branch: Shape) -> type:
    match branch:
        case RecordOf(cls, _, _):
            return cls
        case Primitive(avro):
            return {"long": int, "string": str, "bytes": bytes, "boolean": bool}[avro]
        case _:
            raise TypeError("a union holds records and primitives only")


# Reading: each function emits what reads one value at `i` of `b`, and returns the name that holds it.


def _read(source: _Source, shape: Shape) -> str:
    value = source.name()
    match shape:
        case Primitive("long"):
            _read_number(source, value)
        case Primitive("boolean"):
            source.line(f"{value} = FLAGS[b[i]]; i += 1")
        case Primitive(avro):
            _read_length(source)
            source.line(f"{value} = b[i:j]{'.decode()' if avro == 'string' else ''}; i = j")
        case RecordOf(cls, _, fields):
            _construct(source, cls, value, _read_record(source, fields))
        case ArrayOf(item):
            _read_array(source, item, value)
        case UnionOf():
            _read_union(source, shape, value)
    return value


def _read_record(source: _Source, fields: Sequence[FieldOf]) -> dict[str, str]:
    """The names that hold the values, by field."""
    values: dict[str, str] = {}
    for is_unread, group in itertools.groupby(fields, key=lambda field: field.name in source.unread):
        together = list(group)
        if is_unread:
            for field in together:
                _pass(source, field.shape)
        else:
            names = _read_fields(source, [field.shape for field in together])
            values |= {field.name: name for field, name in zip(together, names, strict=True)}
    return values


def _read_fields(source: _Source, shapes: Sequence[Shape]) -> list[str]:
    """Most of a verdict says that there is nothing to say: several such fields are passed by one comparison."""
    values: list[str] = []
    rest = list(shapes)
    while rest:
        group = list(itertools.takewhile(lambda shape: _nothing(shape) is not None, rest[:_GROUP_FIELDS]))
        if len(group) < _GROUP_FIELDS:
            values.append(_read(source, rest.pop(0)))
            continue
        del rest[: len(group)]
        names = [source.name() for _ in group]
        nothing = "; ".join(f"{name} = {_nothing(shape)}" for name, shape in zip(names, group, strict=True))
        source.line(f"if b[i:i + {len(group)}] == {bytes(len(group))!r}: {nothing}; i += {len(group)}")
        source.line("else:")
        source.indent += 1
        for name, shape in zip(names, group, strict=True):
            source.line(f"{name} = {_read(source, shape)}")
        source.indent -= 1
        values += names
    return values


def _nothing(shape: Shape) -> str | None:
    """The value that one byte of zero stands for, where a field is likely to have it."""
    match shape:
        case UnionOf(_, True):
            return "None"
        case ArrayOf():
            return "()"
        case Primitive("boolean"):
            return "False"
    return None


def _construct(source: _Source, cls: type, value: str, values: dict[str, str]) -> None:
    # A frozen dataclass's __init__ goes through object.__setattr__ for each field, which takes half of a decode. Here
    # an instance is, until it is whole, of a class of the same layout that is not frozen.
    if hasattr(cls, "__post_init__") or "__slots__" not in cls.__dict__:
        source.line(f"{value} = {source.constant(cls)}({', '.join(f'{n}={v}' for n, v in values.items())})")
        return
    source.line(f"{value} = new({source.constant(_open_twin(cls))})")
    for name, one in values.items():
        source.line(f"{value}.{name} = {one}")
    source.line(f"{value}.__class__ = {source.constant(cls)}")


def _pass(source: _Source, shape: Shape) -> None:
    """Emit what passes over one value: nothing is made of it."""
    match shape:
        case Primitive("long"):
            source.line("while b[i] > 127: i += 1")
            source.line("i += 1")
        case Primitive("boolean"):
            source.line("i += 1")
        case Primitive():
            _read_length(source)
            source.line("i = j")
        case RecordOf(_, _, fields):
            for field in fields:
                _pass(source, field.shape)
        case ArrayOf(item):
            _each_item(source, lambda: _pass(source, item))
            source.line("i += 1")
        case UnionOf():
            _read(source, shape)


@cache
def _open_twin(cls: type) -> type:
    """A class with the same slots, of which the attributes can be set (annals.matrix.quick has the same; neither folder
    may import the other)."""
    # Both: a class that inherits one of them from Python code takes the long way for the other, too.
    plain = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(cls.__name__, cls.__bases__, {"__slots__": cls.__dict__["__slots__"], **plain})


def _read_number(source: _Source, value: str) -> None:
    # 129: more bytes follow, or the number is negative.
    source.line("n = b[i]")
    source.line(f"if n & 129: {value}, i = read_long(b, i)")
    source.line(f"else: {value} = n >> 1; i += 1")


def _read_length(source: _Source) -> None:
    source.line("n = b[i]")
    source.line("if n & 129: n, i = read_length(b, i)")
    source.line("else: i += 1")
    source.line("j = i + (n >> 1)")


def _read_array(source: _Source, item: Shape, value: str) -> None:
    items = source.name()
    source.line(f"if b[i] == 0: {value} = (); i += 1")
    source.line("else:")
    source.indent += 1
    source.line(f"{items} = []")
    _each_item(source, lambda: source.line(f"{items}.append({_read(source, item)})"))
    source.line(f"{value} = tuple({items}); i += 1")
    source.indent -= 1


def _each_item(source: _Source, of_item: Callable[[], None]) -> None:
    """Emit what goes through an array's blocks; it ends at the zero behind the last one."""
    count = source.name()
    source.line(f"{count} = b[i]")
    source.line(f"while {count}:")
    source.indent += 1
    source.line(f"if {count} & 129:")
    source.line(f"    {count}, i = read_block(b, i)")
    source.line(f"    if not {count}: i -= 1; break")
    source.line(f"else: {count} >>= 1; i += 1")
    source.line(f"for _ in range({count}):")
    source.indent += 1
    of_item()
    source.indent -= 1
    source.line(f"{count} = b[i]")
    source.indent -= 1


def _read_union(source: _Source, union: UnionOf, value: str) -> None:
    branch = source.name()
    source.line(f"{branch} = b[i]; i += 1")
    if union.optional:
        source.line(f"if {branch} == 0: {value} = None")
    for index, shape in enumerate(union.branches, start=int(union.optional)):
        source.line(f"{'elif' if index else 'if'} {branch} == {index << 1}:")
        source.indent += 1
        source.line(f"{value} = {_read(source, shape)}")
        source.indent -= 1
    source.line(f"else: raise Undecodable(f'a union has no branch {{{branch}}}')")
