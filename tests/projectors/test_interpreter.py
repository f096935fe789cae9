"""What is set for a process while it replays, or serves, ends with that."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from annals.projectors import loop, rebuild
from annals.projectors.interpreter import set_for_projecting, set_for_replay, set_for_serving


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    """Those of a new process; a server that runs in this one may have set others."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("setting", "records_max"), [(set_for_replay, rebuild.RECORDS_MAX), (set_for_projecting, loop.RECORDS_MAX)]
)
def test_what_a_batch_holds_is_not_searched(
    setting: Callable[[], AbstractContextManager[None]], records_max: int
) -> None:
    with setting():
        before = gc.get_stats()[0]["collections"]
        held: list[list[int]] = [[] for _ in range(records_max * 150)]
        assert gc.get_stats()[0]["collections"] == before
    assert len(held) == records_max * 150


@pytest.mark.parametrize("setting", [set_for_replay, set_for_projecting, set_for_serving])
def test_what_was_set_before_is_set_again(setting: Callable[[], AbstractContextManager[None]]) -> None:
    before = gc.get_threshold(), sys.getswitchinterval()
    with pytest.raises(KeyError), setting():
        assert gc.get_threshold()[0] > before[0][0]
        raise KeyError
    assert (gc.get_threshold(), sys.getswitchinterval()) == before
    assert gc.get_freeze_count() == 0
