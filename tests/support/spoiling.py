"""Answers of other servers, spoilt: anything at all, or a good answer in which some places hold something else.

    lie = Spoilt(...)            # drawn from `lies`
    lie.of(good_answer)          # what is answered instead

`Lying` before a scripted peer's class makes it spoil what it answers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from hypothesis import strategies as st

from tests.support.pdu_strategies import any_values

_ODD = ["", "$", "$x:y", "$" + "A" * 43, "@a:b", "!r:x", "\0", "x" * 300, "m.room.create", -1, 2**53, 2**63, 1.5, True]
_GONE = object()


@dataclass(frozen=True)
class Change:
    """One place, found by these numbers from the top down, gets another value, or goes."""

    way: tuple[int, ...]
    value: Any

    def on(self, answer: Any) -> Any:
        """The answer with the change; it is changed in place where it can be."""
        place = answer
        key: Any = None
        parent: Any = None
        for number in self.way:
            if type(place) is dict and place:
                parent, key = place, sorted(place)[number % len(place)]
            elif type(place) is list and place:
                parent, key = place, number % len(place)
            else:
                break
            place = parent[key]
        if parent is None:
            return None if self.value is _GONE else self.value
        if self.value is _GONE:
            del parent[key]
        else:
            parent[key] = self.value
        return answer


@dataclass(frozen=True)
class Spoilt:
    """Some changes of a good answer."""

    changes: tuple[Change, ...]

    def of(self, good: Any) -> Any:
        """What is answered instead of `good`, which stays as it is."""
        answer = copy.deepcopy(good)
        for change in self.changes:
            answer = change.on(answer)
        return answer


_changes = st.builds(
    Change,
    st.lists(st.integers(0, 50), max_size=6).map(tuple),
    any_values | st.sampled_from(_ODD) | st.just(_GONE),
)
lies = st.builds(Spoilt, st.lists(_changes, min_size=1, max_size=3).map(tuple))


class Lying:
    """`lie_about`: what part of a path (make_join, state_ids …) is answered with which lie."""

    lie_about: Mapping[str, Callable[[Any], Any]] = {}

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        answer: web.StreamResponse = await super()._serve(request)  # type: ignore[misc]
        lies_told = [lie for part, lie in self.lie_about.items() if f"/{part}/" in request.path]
        if not lies_told or not isinstance(answer, web.Response) or answer.status != 200:
            return answer
        assert isinstance(answer.body, bytes)
        return web.json_response(lies_told[0](json.loads(answer.body)))
