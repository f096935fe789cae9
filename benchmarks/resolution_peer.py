# mypy: ignore-errors
"""Runs in Synapse's environment: resolves what it is told on stdin with `synapse.state.v2`, and says how long it took.

The store answers the auth difference by walking the events in memory, as ours does; "seconds_without_difference" leaves
that out, as if Synapse's database answered it at once.
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
        self.walking_s = 0.0

    def chain(self, event_ids):
        seen, stack = set(), list(event_ids)
        while stack:
            event_id = stack.pop()
            if event_id not in seen:
                seen.add(event_id)
                stack.extend(self.events[event_id].auth_event_ids())
        return seen

    async def get_events(self, event_ids, redact_behaviour=None, get_prev_content=False, allow_rejected=False):
        return {event_id: self.events[event_id] for event_id in event_ids if event_id in self.events}

    async def get_auth_chain_difference(self, room_id, state_sets, conflicted, additional):
        started = time.process_time()
        chains = [self.chain(state_set) for state_set in state_sets]
        difference = set.union(*chains) - set.intersection(*chains)
        self.walking_s += time.process_time() - started
        return StateDifference(auth_difference=difference, conflicted_subgraph=None)


def main():
    logging.disable(logging.CRITICAL)
    case = json.load(sys.stdin)
    version = KNOWN_ROOM_VERSIONS[case["version"]]
    events = [make_event_from_dict(pdu, version) for pdu in case["events"]]
    store = Store({event.event_id: event for event in events})
    states = [{(t, k): event_id for t, k, event_id in state} for state in case["states"]]
    took = []
    for _ in range(case["runs"]):
        started = time.process_time()
        resolved = asyncio.run(v2.resolve_events_with_store(Clock(), events[0].room_id, version, states, None, store))
        took.append(time.process_time() - started)
    answer = sorted([*key, event_id] for key, event_id in resolved.items())
    seconds = statistics.median(took)
    without = seconds - store.walking_s / case["runs"]
    json.dump({"seconds": seconds, "seconds_without_difference": without, "resolved": answer}, sys.stdout)


main()
