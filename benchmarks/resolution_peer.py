# mypy: ignore-errors
"""Runs in Synapse's environment: resolves what it is told on stdin with `synapse.state.v2`, and says how long it took.

The store has the auth chain of each event computed beforehand, outside of the time that counts: Synapse's database
has an index for this.
"""

import asyncio
import json
import logging
import statistics
import sys
import time

from synapse import event_auth  # noqa: F401  (before synapse.state, which it imports in a circle)
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.events import make_event_from_dict
from synapse.state import v2
from synapse.storage.databases.main.event_federation import StateDifference


class Clock:
    async def sleep(self, duration):
        pass


class Store:
    def __init__(self, events):
        self.events = events
        self.chains = {}
        for event_id in events:
            self.chain(event_id)

    def chain(self, event_id):
        if event_id not in self.chains:
            found = {event_id}
            for other in self.events[event_id].auth_event_ids():
                found |= self.chain(other)
            self.chains[event_id] = frozenset(found)
        return self.chains[event_id]

    async def get_events(self, event_ids, redact_behaviour=None, get_prev_content=False, allow_rejected=False):
        return {event_id: self.events[event_id] for event_id in event_ids if event_id in self.events}

    def prepare(self, states):
        """The auth difference, beforehand: what Synapse's index answers costs nothing here."""
        chains = [frozenset().union(*(self.chains[i] for i in state.values())) for state in states]
        self.difference = set.union(*map(set, chains)) - set.intersection(*map(set, chains))

    async def get_auth_chain_difference(self, room_id, state_sets, conflicted, additional):
        return StateDifference(auth_difference=set(self.difference), conflicted_subgraph=None)


def main():
    logging.disable(logging.CRITICAL)
    case = json.load(sys.stdin)
    version = KNOWN_ROOM_VERSIONS[case["version"]]
    events = [make_event_from_dict(pdu, version) for pdu in case["events"]]
    store = Store({event.event_id: event for event in events})
    states = [{(t, k): event_id for t, k, event_id in state} for state in case["states"]]
    store.prepare(states)
    took = []
    for _ in range(case["runs"]):
        started = time.perf_counter()
        resolved = asyncio.run(v2.resolve_events_with_store(Clock(), events[0].room_id, version, states, None, store))
        took.append(time.perf_counter() - started)
    answer = sorted([*key, event_id] for key, event_id in resolved.items())
    json.dump({"seconds": statistics.median(took), "resolved": answer}, sys.stdout)


main()
