"""What only `make soak` runs: tests with the marker `soak`, and the parameters that carry it.

    @pytest.mark.parametrize("version", versions("10", "12"))            # these in `make test`, all twelve in the soak
    @pytest.mark.parametrize("version", versions("12", since=8))         # the feature came with room version 8

`pytest --hypothesis-profile=soak` is a soak; in any other run these are left out. There each test has an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hypothesis
import pytest

from annals.matrix.room_versions import ROOM_VERSIONS

PROFILE = "soak"
_SOAK_TIMEOUT_S = 3_600
# More than any other profile has.
_EXAMPLES = 100


def is_soak(config: pytest.Config) -> bool:
    """Whether this run is to look for longer."""
    return bool(config.getoption("--hypothesis-profile", None) == PROFILE)


def only_in_soak(*values: Any) -> Any:
    """A parameter, or one of several names, that `make test` leaves out."""
    return pytest.param(*values, marks=pytest.mark.soak)


def versions(*always: str, since: int = 1) -> Sequence[Any]:
    """Every room version from `since` on; other than these only in a soak."""
    there = [version for version in ROOM_VERSIONS if int(version) >= since]
    return [version if version in always else only_in_soak(version) for version in there]


def few_examples(count: int) -> hypothesis.settings:
    """So many examples in `make test`, for a test of which one takes long; in a soak as many as any test has there."""
    default = hypothesis.settings.default
    assert default is not None
    profile = default.max_examples
    return hypothesis.settings(max_examples=profile if profile > _EXAMPLES else min(count, profile))


def _repeats(item: pytest.Item) -> bool:
    """Whether it is run on both logs (tests.support.backends, tests.support.shared_server), is not about them, and this
    is the second one."""
    runs_on = getattr(item, "callspec", None)
    one_log = item.get_closest_marker("one_log") is not None
    if not one_log or runs_on is None:
        return False
    return "kafka" in (runs_on.params.get("log_backend"), runs_on.params.get("server"))


def leave_out_soak(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of what was collected, what this run is not for."""
    if is_soak(config):
        # A thousand examples of what takes half a second are more than the ten minutes that a test has otherwise.
        for item in items:
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_SOAK_TIMEOUT_S))
        return
    left_out = [item for item in items if item.get_closest_marker(PROFILE) or _repeats(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
