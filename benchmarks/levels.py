"""What long histories of power levels cost: `python -m benchmarks.levels 100 1000 10000`.

Rooms of 100 members whose power levels were changed so often; then two heads that differ are joined with a third, by an
event of which the machine knows nothing (cold): two resolutions. Printed are rounds, queries, rows, events and seconds
of CPU of the machine and the loading, without PostgreSQL's own. The conflicts:

- `member`: a member's profile was changed on one side.
- `levels`: power levels were changed on one side, a profile on the other.
- `sender`: the profile of who sent all power levels was changed: these stand between the new one and the old one.
- `old`: one side stands on what was there before all power levels.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from annals.database.write_connection import WriteConnection
from annals.projectors.rooms.load import load
from annals.rooms.machine import decide
from annals.rooms.needs import Needs
from annals.rooms.view import learn, unknown_room
from annals.schemas.facts.rooms import PduFact
from annals.server.embedded_postgres import EmbeddedPostgres
from benchmarks.replay_log import OURS
from benchmarks.scale import FOLDER, LEVELS, Counting, GrownRoom

FEW_MEMBERS = 100
CONFLICTS = ("member", "levels", "sender", "old")
Mark = tuple[list[str], int, dict[tuple[str, str], str]]


@dataclass(frozen=True, slots=True)
class Joined:
    """What deciding one event of a cold room read and took."""

    rounds: int
    queries: int
    rows: int
    events: int
    cpu_s: float


class LongHistory(GrownRoom):
    """A room whose power levels were changed often."""

    def conflict(self, kind: str) -> Joined:
        """Two heads, a third beside, and the event that joins the two; all are one again afterwards."""
        room, now = self.room, self.mark()
        owner = room.members[0]
        one, other, third = (f"@member{number}:{OURS}" for number in (5, 6, 7))
        self.go_to(now, 0)
        self.append([room.join(owner if kind == "sender" else one)])
        if kind == "levels":
            self.append([room.grow(LEVELS, owner, {"state_default": 0, "ban": 91}, "")])
        heads = room.heads
        self.go_to(self.before_levels if kind == "old" else now, 50)
        self.append([room.join(other) if kind == "levels" else room.grow("m.room.topic", other, {"topic": kind}, "")])
        heads = [*heads, *room.heads]
        self.go_to(now, 100)
        self.append([room.join(third)])
        beside = room.heads
        self.go_to((heads, *now[1:]), 150)
        merge = room.grow("m.room.message", owner, {"body": "x"})
        joined = self.join_cold(merge)
        self.append([merge])
        room.heads, room.state = [merge.event_id, *beside], dict(now[2])
        self.append([room.grow("m.room.message", owner, {"body": "all"})])
        return joined

    def mark(self) -> Mark:
        """Where the room is."""
        return list(self.room.heads), self.room.depth, dict(self.room.state)

    def go_to(self, mark: Mark, deeper: int) -> None:
        """What grows next stands there, at depths that nothing else has: idempotency keys are made of them."""
        self.room.heads, self.room.depth, self.room.state = list(mark[0]), self.room.depth + deeper, dict(mark[2])

    def join_cold(self, fact: PduFact) -> Joined:
        """Decide the fact in a view that has nothing of the room."""
        connection = WriteConnection(self.url, "g1")
        counting, view, rounds, events = Counting(connection), unknown_room(fact.room_id), 0, 0
        started = time.process_time()
        while isinstance(outcome := decide(view, fact, 1 << 40, 1), Needs):
            found = load(counting, outcome)[fact.room_id]
            events += len(found.events)
            view, rounds = learn(view, found), rounds + 1
        cpu_s = time.process_time() - started
        connection.close()
        return Joined(rounds, counting.queries, counting.row_count, events, cpu_s)


def main(arguments: Sequence[str]) -> int:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    postgres = EmbeddedPostgres(FOLDER / "postgres")
    postgres.start()
    try:
        print(" changes  conflict   rounds  queries     rows   events    CPU s")
        for changes in map(int, arguments):
            room = LongHistory(postgres, FEW_MEMBERS, changes)
            for kind in CONFLICTS:
                cost = room.conflict(kind)
                counts = f"{cost.rounds:>7}{cost.queries:>9}{cost.rows:>9}{cost.events:>9}{cost.cpu_s:>9.2f}"
                print(f"{changes:>8,}  {kind:<8}{counts}", flush=True)
            room.close()
    finally:
        postgres.stop()
        shutil.rmtree(FOLDER, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["100", "1000"]))
