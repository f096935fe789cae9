"""The scratch pad of one step: the view as it changes, and the decisions as they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from annals.matrix.quick import changer, maker
from annals.rooms.state import RoomState, root_state, with_changes
from annals.rooms.view import Entry, Header, RoomView
from annals.schemas.facts.decisions import Decision, StateMade, Verdict
from annals.schemas.position import pack

D = TypeVar("D", bound=Decision)

#: Raised by every change that can alter a decision; the golden corpus fails where it was forgotten.
DECIDE_VERSION = 7

#: A decision makes up to three states (before, after, current): their ids derive from its stream position. 0 is none's.
_STATES_PER_DECISION = 4

_verdict = maker(Verdict)
_changed_header = changer(Header)
_with_extremities = changer(Header, "extremities")


@dataclass
class Step:
    """One fact and all that it wakes. Thrown away where something is lacking: the view that came in is untouched."""

    view: RoomView
    offset: int
    epoch: int
    decisions: list[Decision] = field(default_factory=list)
    came: list[str] = field(default_factory=list)
    """Events judged since parked ones were last looked at."""
    _states_made: list[StateMade] = field(default_factory=list)

    @property
    def header(self) -> Header:
        """The room's header as it stands within the step."""
        header = self.view.header
        return self.view.known_header() if header is None else header

    @property
    def position(self) -> int:
        """The stream position of the next decision."""
        return pack(self.offset, len(self.decisions))

    def set_header(self, **changes: Any) -> None:
        """Change fields of the header."""
        self.view = self.view.with_header(_changed_header(self.header, **changes))

    def set_extremities(self, extremities: tuple[str, ...]) -> None:
        """What nearly every event changes."""
        self.view = self.view.with_header(_with_extremities(self.header, extremities=extremities))

    def set_entry(self, entry: Entry) -> None:
        """Put an event with its verdict into the view."""
        if self.view.events.get(entry.event.event_id) is not entry:
            self.view = self.view.with_entry(entry)

    def follow_state(self, state: RoomState, delta: dict[tuple[str, str], str | None]) -> RoomState:
        """The state that follows `state` by `delta`; its record goes out with the next decision."""
        return self._take_state(*with_changes(state, delta, self._next_state_id()))

    def root_state(self, entries: Mapping[tuple[str, str], str]) -> RoomState:
        """A whole state that follows none; its record goes out with the next decision."""
        return self._take_state(*root_state(self.view.room_id, entries, self._next_state_id()))

    def _next_state_id(self) -> int:
        return self.position * _STATES_PER_DECISION + len(self._states_made) + 1

    def _take_state(self, made: RoomState, record: StateMade) -> RoomState:
        self._states_made.append(record)
        self.view = self.view.with_state(made)
        return made

    def decide(self, kind: type[D], source: int, /, **fields: Any) -> D:
        """Make a decision about the fact at `source`; it takes the states made since the last one along."""
        if self._states_made:
            fields["states_made"] = tuple(self._states_made)
            self._states_made = []
        make: Any = _verdict if kind is Verdict else kind
        decision: D = make(
            room_id=self.view.room_id,
            position=self.position,
            source=source,
            epoch=self.epoch,
            decide_version=DECIDE_VERSION,
            last_of_step=False,
            **fields,
        )
        self.decisions.append(decision)
        return decision

    def finish(self) -> tuple[Decision, ...]:
        """The decisions of the step, the last one marked."""
        if self.decisions:
            # Nobody has seen it yet; to copy it would cost a fifth of the whole step.
            object.__setattr__(self.decisions[-1], "last_of_step", True)
        return tuple(self.decisions)
