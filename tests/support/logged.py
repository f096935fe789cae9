"""What stands on the log of a LiveServer."""

from __future__ import annotations

from annals.schemas.codec import decode
from annals.schemas.facts.rooms import RoomFact
from tests.support.server import LiveServer


def facts_of_room(server: LiveServer, room_id: str) -> list[RoomFact]:
    """The facts about a room, in order."""
    log, found = server.house.log, []
    for partition in range(log.partitions("rooms")):
        offset, end = 0, log.end("rooms", partition)
        while offset < end:
            for record in log.read("rooms", partition, offset):
                fact = decode(record.value) if record.value is not None else None
                if isinstance(fact, RoomFact) and fact.room_id == room_id:
                    found.append(fact)
                offset = record.offset + 1
    return found
