"""The topics that have tables, for who asks how far the tables are: annals.projectors.groups has their folds."""

from __future__ import annotations

#: In the order in which their partitions are taken, as the groups stand.
PROJECTED = ("operations", "subject_keys", "servers", "users", "directory", "to_device", "receipts", "rooms")
