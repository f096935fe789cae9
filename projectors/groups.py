"""The groups: which topics are projected, by what, and how what is on them may be trusted to stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from annals.projectors.directory.fold import DirectoryProjection
from annals.projectors.folding import Projection
from annals.projectors.operations.fold import OperationsProjection
from annals.projectors.receipts.fold import ReceiptsProjection
from annals.projectors.servers.fold import ServersProjection
from annals.projectors.subject_keys.fold import SubjectKeysProjection
from annals.projectors.to_device.fold import ToDeviceProjection
from annals.projectors.users.fold import UsersProjection
from annals.schemas.topics import TOPICS


@dataclass(frozen=True, slots=True)
class Group:
    """Tables that move together. `projection` None: rooms, which the room machine decides."""

    name: str
    topic: str
    projection: Projection | None

    @property
    def kept_for_ever(self) -> bool:
        """Whether the record before a position can be asked for: what compaction or age removes cannot."""
        spec = TOPICS[self.topic]
        return not spec.compacted and spec.retention_ms is None


ROOMS = Group("rooms", "rooms", None)

# In this order partitions are taken: operations first, as it says which records are skipped.
GROUPS: Mapping[str, Group] = {
    group.name: group
    for group in (
        Group("operations", "operations", OperationsProjection()),
        Group("subject_keys", "subject_keys", SubjectKeysProjection()),
        Group("servers", "servers", ServersProjection()),
        Group("users", "users", UsersProjection()),
        Group("directory", "directory", DirectoryProjection()),
        Group("to_device", "to_device", ToDeviceProjection()),
        Group("receipts", "receipts", ReceiptsProjection()),
        ROOMS,
    )
}
