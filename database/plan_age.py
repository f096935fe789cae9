"""When plans that hold for any parameters are made anew: they were made for tables as large as these were then.

On a table of a few rows every index that fits at all costs the same, a scan of all rows hardly more; the plan stays
when there are millions. PostgreSQL makes it anew by itself when it has analysed the table, which is a minute later at
best. So plans are dropped (`DISCARD`) when they have been used as often as the connection had before, and at least once
in so many uses: whatever the tables did meanwhile, most uses are by a plan made for at least half as many rows, and
planning costs next to nothing.
"""

from __future__ import annotations

#: Plans of this connection are made anew, each when it is used next. In a transaction or outside of one.
DISCARD = "DISCARD PLANS"
_USES_MAX = 16_384


class PlanAge:
    """Counts the uses of one connection's plans; the first drop is after `first` of them."""

    def __init__(self, first: int) -> None:
        self._left = self._last = first

    def is_due(self) -> bool:
        """Before a use: whether to drop the plans with it."""
        self._left -= 1
        if self._left > 0:
            return False
        self._left = self._last = min(2 * self._last, _USES_MAX)
        return True
