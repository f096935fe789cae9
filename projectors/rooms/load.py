"""Loading what the room machine lacks: set-wise, one query a kind, whatever the number of rooms.

Answers come by room, each need with an entry: None (or an empty value) says that there is nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from annals.projectors.rooms.found import Found, Reads
from annals.projectors.rooms.load_auth_chains import load_chains, load_cited, load_citing_chains, load_places
from annals.projectors.rooms.load_auth_paths import load_below, load_between, load_mainlines, load_ranges
from annals.projectors.rooms.load_events import load_events, load_headers, load_keys
from annals.projectors.rooms.load_members import load_memberships, load_residents, load_servers
from annals.projectors.rooms.load_resolutions import load_resolutions
from annals.projectors.rooms.load_sets import load_glimpses, load_sets
from annals.projectors.rooms.load_states import load_changes, load_state_keys, load_states, load_whole_states
from annals.rooms.needs import Loaded, Needs
from annals.schemas.facts.rooms import RoomFact

FactAt = Callable[[int], RoomFact]

# As deep as a round may go: what a resolution reads of a chain is seldom more, and if so it asks again.
_CHAIN_DEPTH = 16


def load(connection: Reads, needs: Needs, fact_at: FactAt | None = None) -> Mapping[str, Loaded]:
    """The answers to `needs`, by room. `fact_at` reads a fact of the partition from the log."""
    answers: defaultdict[str, Found] = defaultdict(Found)
    if needs.rooms:
        load_headers(connection, list(needs.rooms), answers)
    if needs.resolutions:
        load_resolutions(connection, sorted(needs.resolutions), answers)
    if needs.events:
        load_events(connection, needs.events, answers)
    if needs.auth_chains:
        load_chains(connection, needs.auth_chains, _CHAIN_DEPTH, answers)
    if needs.states:
        load_states(connection, needs.states, answers)
    if needs.state_keys:
        load_state_keys(connection, needs.state_keys, answers)
    if needs.whole_states:
        load_whole_states(connection, needs.whole_states, answers)
    if needs.changes:
        load_changes(connection, needs.changes, answers)
    if needs.keys:
        load_keys(connection, needs.keys, answers)
    if needs.auth_places:
        load_places(connection, needs.auth_places, answers)
    if needs.citing_chains:
        load_citing_chains(connection, needs.citing_chains, answers)
    if needs.between:
        load_between(connection, needs.between, answers)
    if needs.below:
        load_below(connection, needs.below, answers)
    if needs.ranges:
        load_ranges(connection, needs.ranges, answers)
    if needs.mainlines:
        load_mainlines(connection, needs.mainlines, answers)
    if needs.cited:
        load_cited(connection, needs.cited, answers)
    if needs.sets:
        load_sets(connection, needs.sets, answers)
    if needs.glimpses:
        load_glimpses(connection, needs.glimpses, answers)
    if needs.residents:
        load_residents(connection, needs.residents, answers)
    if needs.servers:
        load_servers(connection, needs.servers, answers)
    if needs.memberships:
        load_memberships(connection, needs.memberships, answers)
    for room_id, offset in needs.facts:
        if fact_at is None:
            raise ValueError("facts are wanted, but nothing reads the log")
        answers[room_id].facts[room_id, offset] = fact_at(offset)
    return {room_id: of_room.loaded() for room_id, of_room in answers.items()}
