"""What a replay sets for its process ends with it."""

from __future__ import annotations

import gc
import sys

import pytest

from annals.projectors.interpreter import set_for_replay


def test_what_was_set_before_is_set_again() -> None:
    before = gc.get_threshold(), sys.getswitchinterval()
    with pytest.raises(KeyError), set_for_replay():
        assert gc.get_threshold()[0] > before[0][0]
        raise KeyError
    assert (gc.get_threshold(), sys.getswitchinterval()) == before
    assert gc.get_freeze_count() == 0
