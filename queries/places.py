"""Places in a room's timeline that clients name by a token: of /messages, or of /sync."""

from __future__ import annotations

from annals.database.snapshot import Snapshot
from annals.projectors.positions.read import vector_of
from annals.queries.client_events import VISIBLE
from annals.queries.errors import BadPlace, NotYet
from annals.queries.pages import NEWEST, BadPageToken, PageToken, before_position, unpack_page
from annals.queries.sync.token import BadToken, log_mark, unpack
from annals.schemas.position import step_start

_PARTITION_SQL = "SELECT partition FROM rooms WHERE room_id = %s"
# The lowest in the order of /messages of what a /sync had not shown yet.
_LOWEST_SQL = f"""
    SELECT min(e.depth) FROM events e WHERE e.room_id = %s AND e.position >= %s AND {VISIBLE}
"""


class PlaceReader:
    """Reads tokens of this server's log."""

    def __init__(self, log_id: str) -> None:
        self._log = log_mark(log_id)

    def place(self, snapshot: Snapshot, room_id: str, text: str) -> PageToken:
        """The place of a token in a room: for a /sync token, behind everything that it had shown. Raises BadPlace."""
        try:
            return unpack_page(text)
        except BadPageToken:
            return before_position(self._sync_bound(snapshot, room_id, text))

    def first_after(self, snapshot: Snapshot, room_id: str, text: str) -> PageToken:
        """Where that begins which a token had not shown: the start of a page forwards, the stop of one backwards."""
        place = self.place(snapshot, room_id, text)
        if not place.is_end_of_sync:
            return place
        row = snapshot.one(_LOWEST_SQL, (room_id, place.below))
        if row is None or row[0] is None:
            return PageToken(NEWEST.depth, NEWEST.position, above=place.below)
        return PageToken(row[0], 0, above=place.below)

    def bound(self, snapshot: Snapshot, room_id: str, text: str) -> int:
        """The lowest stream position that is new to a token of either kind. Raises BadPlace."""
        try:
            place = unpack_page(text)
        except BadPageToken:
            return self._sync_bound(snapshot, room_id, text)
        return place.below if place.is_end_of_sync else place.position

    def _sync_bound(self, snapshot: Snapshot, room_id: str, text: str) -> int:
        try:
            token = unpack(text)
        except BadToken:
            raise BadPlace("not a token") from None
        row = snapshot.one(_PARTITION_SQL, (room_id,))
        partition = row[0] if row else 0
        if token.log != self._log or partition >= len(token.rooms):
            raise BadPlace("a token of another log")
        offset = token.rooms[partition]
        if offset > vector_of(snapshot.positions).get(("rooms", partition), 0):
            raise NotYet("the tables have not reached the token")
        return step_start(offset)
