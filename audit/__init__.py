"""Questions to the log: what it holds, what was decided, and whether the tables still follow from it."""
