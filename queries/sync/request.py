"""What a /sync asks for."""

from __future__ import annotations

from dataclasses import dataclass

from annals.queries.client_events import Viewer
from annals.queries.sync.filters import SyncFilter
from annals.queries.sync.token import SyncToken


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A /sync of a device. `since` None: an initial one."""

    viewer: Viewer
    since: SyncToken | None
    filter: SyncFilter
    full_state: bool = False
    use_state_after: bool = False
