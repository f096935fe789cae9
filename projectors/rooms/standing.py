"""What is asked first when another server wants something of a room: do we have it, are we in it, may they be there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.room_versions import ROOM_VERSIONS, RoomRules
from annals.matrix.server_acl import ServerAcl

_STANDING_SQL = """
    SELECT r.room_id, r.room_version,
        EXISTS (SELECT 1 FROM local_current_membership m WHERE m.room_id = r.room_id AND m.membership = 'join'),
        acl.event_id, acl.client_json, acl.redacted_by IS NOT NULL
    FROM rooms r
    LEFT JOIN current_state cs
        ON cs.room_id = r.room_id AND cs.type = 'm.room.server_acl' AND cs.state_key = ''
    LEFT JOIN events acl ON acl.room_id = cs.room_id AND acl.event_id = cs.event_id
    WHERE r.room_id = ANY (%s)
"""


@dataclass(frozen=True, slots=True)
class RoomStanding:
    """A room of which we have state. `joined`: a user of ours is in it now."""

    rules: RoomRules
    joined: bool
    acl: ServerAcl | None

    def admits(self, server_name: str) -> bool:
        """Whether the room's ACL lets the server take part."""
        return self.acl is None or self.acl.allows(server_name)


def standings(snapshot: Snapshot, room_ids: list[str]) -> dict[str, RoomStanding]:
    """By room id; rooms of which we have no state are left out."""
    found = {}
    for room_id, version, joined, acl_id, acl_json, redacted in snapshot.rows(_STANDING_SQL, (room_ids,)):
        acl = acl_of(acl_json, redacted) if acl_id is not None else None
        found[restore(room_id)] = RoomStanding(ROOM_VERSIONS[version], joined, acl)
    return found


@lru_cache(maxsize=500)
def acl_of(client_json: str, redacted: bool) -> ServerAcl | None:
    """The ACL that a stored m.room.server_acl says.

    In no room version does the redaction algorithm keep any key of it. What remains is an ACL that allows nobody: "If
    the server name matches an entry in the `allow` list, allow. Otherwise, deny." So it is in Synapse, too, which reads
    the current state's events redacted (server_acl_evaluator_from_event).
    """
    content = {} if redacted else loads(restore(client_json)).get("content")
    return ServerAcl.of(content if isinstance(content, dict) else {})
