"""The generations of a server: what the log says of them, and how far their tables are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from annals.audit.errors import GenerationInUse
from annals.audit.following import followed
from annals.audit.operating import Operating
from annals.database.errors import NotMigrated
from annals.database.migrate import drop_generation, generations
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.eventlog.api import Log, TopicPartition
from annals.eventlog.reading import records_between
from annals.projectors.positions.read import lags, vector_of
from annals.schemas.codec import decode
from annals.schemas.errors import Undecodable
from annals.schemas.facts.operations import GenerationCreated, GenerationDropped

OPERATIONS = "operations"
#: So long the database may take to see that a writer was killed: until what it does for it is done.
OWNER_GONE_S = 10.0
_LOOK_AGAIN_S = 0.05

# A backend is known by its pid and start: the pid alone may be somebody else's by now.
_OWNERS = """
SELECT DISTINCT p.owner FROM positions p
JOIN pg_stat_activity a ON a.pid = p.pid AND a.backend_start::text = p.backend_start"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the log says of a generation. `mode`: serve, fold or recompute."""

    mode: str
    dropped: bool


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation. `mode` None: its creation is not on the log. `lag`: records that its tables do not have yet.

    `followed`: a running server projects it, though it does not serve. `owner` is the process that writes it now, None
    where nobody does; `positions` None: it has no tables.
    """

    name: str
    mode: str | None
    serves: bool
    owner: str | None
    positions: Mapping[TopicPartition, int] | None
    lag: int
    followed: bool = False


def recorded_generations(log: Log) -> dict[str, Recorded]:
    """The generations that the log knows, dropped ones included. A name is used once."""
    found: dict[str, Recorded] = {}
    for record in records_between(log, OPERATIONS, 0, 0):
        try:
            fact = decode(record.value) if record.value is not None else None
        except Undecodable:
            continue
        if isinstance(fact, GenerationCreated):
            found.setdefault(fact.generation, Recorded(fact.mode, dropped=False))
        elif isinstance(fact, GenerationDropped) and fact.generation in found:
            found[fact.generation] = Recorded(found[fact.generation].mode, dropped=True)
    return found


def serving(database: Database) -> str | None:
    """The generation that answers readers; None in a database without tables."""
    try:
        return database.read_now(lambda snapshot: snapshot.generation)
    except NotMigrated:
        return None


def list_generations(log: Log, database: Database) -> list[Generation]:
    """All that have tables, or are on the log and not dropped, by number."""
    recorded = recorded_generations(log)
    names = {name for name, entry in recorded.items() if not entry.dropped} | set(generations(database.url))
    serves = serving(database)
    kept_up = followed(database) if serves is not None else frozenset()
    return [
        replace(_look(log, database, name, recorded, serves), followed=name in kept_up and name != serves)
        for name in sorted(names, key=lambda name: int(name[1:]))
    ]


def _look(log: Log, database: Database, name: str, recorded: Mapping[str, Recorded], serves: str | None) -> Generation:
    def read(snapshot: Snapshot) -> tuple[dict[TopicPartition, int], str | None]:
        return vector_of(snapshot.positions), _owner(snapshot)

    mode = recorded[name].mode if name in recorded else None
    try:
        positions, owner = database.read_now(read, generation=name)
    except NotMigrated:
        return Generation(name, mode, name == serves, None, None, sum(lags(log, {}).values()))
    return Generation(name, mode, name == serves, owner, positions, sum(lags(log, positions).values()))


def _owner(snapshot: Snapshot) -> str | None:
    rows = snapshot.rows(_OWNERS)
    return rows[0][0] if rows else None


def live_owner(database: Database, name: str) -> str | None:
    """The process that writes a generation at this moment; None where nobody does."""
    try:
        return database.read_now(_owner, generation=name)
    except NotMigrated:
        return None


def check_unwritten(database: Database, name: str) -> None:
    """Raises GenerationInUse where a process writes the generation, and goes on with it."""
    deadline_s = time.monotonic() + OWNER_GONE_S
    while owner := live_owner(database, name):
        if time.monotonic() > deadline_s:
            raise GenerationInUse(f"{name} is being written by {owner}")
        time.sleep(_LOOK_AGAIN_S)


def is_written(database: Database, name: str) -> bool:
    """Whether a process writes a generation, or is about to: whoever writes the one that serves begins with those that
    are followed."""
    if live_owner(database, name) is not None:
        return True
    serves = serving(database)
    return serves is not None and name in followed(database) and live_owner(database, serves) is not None


def drop(operating: Operating, database: Database, name: str, actor: str) -> None:
    """Drop a generation's tables, as a fact. Raises GenerationInUse.

    Its decisions stay on the log, so that its name is not used again.
    """
    if serving(database) == name:
        raise GenerationInUse(f"{name} serves: it cannot be dropped")
    if serving(database) is not None and name in followed(database):
        raise GenerationInUse(f"{name} is followed: say `annals generation unfollow {name}` first")
    check_unwritten(database, name)
    recorded = recorded_generations(operating.log).get(name)
    if recorded is None and name not in generations(database.url):
        raise GenerationInUse(f"there is no generation {name}")
    if recorded is None or not recorded.dropped:
        operating.append([GenerationDropped(operating.envelope(is_cause=True), name, actor)])
    drop_generation(database.url, name)
