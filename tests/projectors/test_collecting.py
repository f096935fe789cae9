"""Collecting garbage rarely ends with what it was for."""

from __future__ import annotations

import gc

import pytest

from annals.projectors.collecting import rarely_collected


def test_what_was_set_before_is_set_again() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyError), rarely_collected():
        assert gc.get_threshold()[0] > before[0]
        raise KeyError
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
