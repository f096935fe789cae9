"""What can go wrong in a projector, besides the errors of database and log.

ProjectorError
├── GivenUp               a partition is lost for now: take it again
│   ├── FenceLost         its row is at another offset or epoch than the owner believes
│   ├── StopsHere         its row says that it stops, before what was to be folded
│   └── TakenMeanwhile    another process took it while we did: ask again whose it is
├── CannotTake            a partition must not be taken; an operator has to act
│   ├── LogWentBack       the tables are ahead of the log, or beside it: it was restored, or is another one
│   │   └── LogReplaced   … while we read it
│   ├── NewerDecideVersion   a newer release decided here
│   └── Superseded        another process took the partition: it is the owner now
└── TornDecisions         a decisions topic does not hold what its writers promise
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

GroupPartition = tuple[str, str, int]
"""(group, topic, partition)."""


class ProjectorError(Exception):
    """Root of the projectors' own errors."""


class GivenUp(ProjectorError):
    """The partitions' memory is void; they may be taken again."""


class FenceLost(GivenUp):
    """The position rows of these partitions are not as their owner left them: nothing was written."""

    def __init__(self, partitions: Collection[GroupPartition]) -> None:
        super().__init__(f"fence lost: {sorted(partitions)}")
        self.partitions = frozenset(partitions)


class StopsHere(GivenUp):
    """For a moment partitions go no further than to these offsets (annals.projectors.stops): nothing was written, and
    what is in memory stays true."""

    def __init__(self, stops: Mapping[GroupPartition, int]) -> None:
        super().__init__(f"stopped at {sorted(stops.items())}")
        self.stops = dict(stops)


class TakenMeanwhile(GivenUp):
    """Another process, which shares the partitions with us, took one at this moment: ours is an old assignment."""


class CannotTake(ProjectorError):
    """Taking a partition would do harm."""


_AFTER_WENT_BACK = (
    "The tables were made from a log that this one does not continue. "
    "Either restore the log that belongs to this database, or set the tables aside "
    "(drop the generation's schema) so that they are built again from this log; "
    "clients' tokens of the lost records are then answered as an initial sync."
)


class LogWentBack(CannotTake):
    """Consumers never reset offsets by themselves: an operator says what to do."""

    def __init__(self, topic: str, partition: int, problem: str) -> None:
        super().__init__(f"{topic}[{partition}]: {problem}. {_AFTER_WENT_BACK}")
        self.topic, self.partition = topic, partition


class LogReplaced(LogWentBack):
    """A topic was made anew, or lost records that are kept for ever, while we read it."""

    def __init__(self, problem: str) -> None:
        CannotTake.__init__(self, f"{problem}. {_AFTER_WENT_BACK}")


class NewerDecideVersion(CannotTake):
    """This release is older than the one that decided last: it must not go on."""


class Superseded(CannotTake):
    """Another process owns the partition since, and everything with it: the log is shared with nobody."""


class TornDecisions(ProjectorError):
    """Decisions that no owner can have written: steps mixed, ordinals missing."""


class ReplayStopped(Exception):
    """A partition met a record that it cannot read, so that the generation is not whole."""
