"""What a step leaves for others to do: notices say it, so that who has nothing to do with an event is not woken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from annals.projectors.notices import GAPS, HANDSHAKES, POLICY, SERVERS
from annals.projectors.rooms.fold import users_moved
from annals.rooms.view import PENDING_POLICY
from annals.schemas.facts.decisions import Decision, HandshakeEnded, HandshakeOpened, RoomEntered, Verdict, WantedOpened

_NONE: frozenset[str] = frozenset()


def users_and_errands(
    decisions: Sequence[Decision], is_local: Callable[[str], bool]
) -> tuple[frozenset[str], frozenset[str]]:
    """Users of ours whose own membership a step changes, and what it leaves to do (annals.projectors.notices)."""
    if all(map(_is_quiet, decisions)):
        return _NONE, _NONE
    errands = {errand for decision in decisions for errand in _errands(decision)}
    moved = users_moved(decisions)
    if not moved:
        return _NONE, frozenset(errands) if errands else _NONE
    local = frozenset(filter(is_local, moved))
    if len(local) != len(moved):
        errands.add(SERVERS)
    return local, frozenset(errands)


def _is_quiet(decision: Decision) -> bool:
    """Whether it is about an event that changed nobody's state and leaves nothing to do: most are."""
    return isinstance(decision, Verdict) and not decision.current_delta and decision.verdict != PENDING_POLICY


def _errands(decision: Decision) -> tuple[str, ...]:
    if isinstance(decision, Verdict):
        return (POLICY,) if decision.verdict == PENDING_POLICY else ()
    if isinstance(decision, WantedOpened):
        return (GAPS,)
    if isinstance(decision, HandshakeOpened):
        return (HANDSHAKES,)
    # The members of a room that was joined elsewhere come all at once.
    return (HANDSHAKES, SERVERS) if isinstance(decision, HandshakeEnded | RoomEntered) else ()
