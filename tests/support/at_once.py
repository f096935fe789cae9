"""Many rows in one test.

    @at_once("rules", ROOM_VERSIONS.values())
    def test_a_rule(rules: RoomRules) -> None: ...

What `parametrize` makes of a table are as many tests, each collected by every worker, set up, reported and torn down:
milliseconds for what takes microseconds. Here the rows are run one after another; a failure names its row.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

Test = Callable[..., None]


def at_once(names: str | tuple[str, ...], rows: Iterable[Any]) -> Callable[[Test], Test]:
    """Run the test for each row: the value of the one argument `names`, or a tuple of the values of several."""
    given = list(rows)
    assert given
    arguments = (names,) if isinstance(names, str) else names

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def of_every_row(*args: Any, **kwargs: Any) -> None:
            for row in given:
                values = (row,) if isinstance(names, str) else row
                try:
                    test(*args, **kwargs, **dict(zip(arguments, values, strict=True)))
                except BaseException as error:
                    error.add_note(f"row: {', '.join(arguments)} = {row!r}")
                    raise

        signature = inspect.signature(test)
        others = [parameter for name, parameter in signature.parameters.items() if name not in arguments]
        # What pytest takes for names of fixtures.
        of_every_row.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        return of_every_row

    return decorate
