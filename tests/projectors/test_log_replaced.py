"""A log that says of itself that it is another one now: the loop ends with instructions, and asks no second time."""

from __future__ import annotations

import re
from typing import Any

import pytest

from annals.eventlog.embedded import EmbeddedLog
from annals.eventlog.errors import LogError, RecordsGone, TopicReplaced
from annals.projectors.errors import LogWentBack
from annals.projectors.loop import Loop, Settings
from tests.support.projectors import connector


class Replaced:
    """A log whose readers meet an error."""

    def __init__(self, log: EmbeddedLog, error: LogError) -> None:
        self._log, self._error, self.asked = log, error, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def tail(self, *_: object) -> Any:
        self.asked += 1
        raise self._error


@pytest.mark.parametrize("error", [TopicReplaced("rooms was made anew"), RecordsGone("rooms[0] begins at 7")])
def test_it_ends_with_instructions(log: EmbeddedLog, tables_url: str, error: LogError) -> None:
    replaced: Any = Replaced(log, error)
    loop = Loop(replaced, connector(tables_url), Settings("g1", "localhost", "first"))
    with pytest.raises(LogWentBack, match=f"{re.escape(str(error))}.*restore the log"):
        loop.run()
    assert replaced.asked == 1
