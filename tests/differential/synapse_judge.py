# mypy: ignore-errors
"""Synapse as a judge: JSON lines in, JSON lines out. Runs in the peer's environment, which knows nothing of Annals.

    {"ask": "rooms", "version", "events": [pdu, ...], "rejected": [event id, ...], "questions": [question, ...]}
        ["signed", event id]                       does it have its signatures, and may it cite what it cites?
        ["allowed", event id, [event id, ...]]     do the auth rules allow it in that state?
        ["resolve", [[[type, key, id], ...], ...]]
    {"ask": "forms", "version", "events": [pdu, ...]}      event id, redacted form and content hash of each

Answers: true or false, a sorted state, or {"crash": "..."} where Synapse raised what it does not raise to refuse.
"""

import asyncio
import hashlib
import json
import logging
import sys

from synapse import event_auth
from synapse.api.errors import SynapseError
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS, StateResolutionVersions
from synapse.crypto.event_signing import compute_content_hash
from synapse.events import make_event_from_dict
from synapse.events.utils import prune_event
from synapse.state import v1, v2
from synapse.storage.databases.main.event_federation import StateDifference
from unpaddedbase64 import encode_base64


class Clock:
    async def sleep(self, duration):
        pass


class Store:
    """What Synapse asks its database, over the events of one room."""

    def __init__(self, events):
        self.events = events

    async def get_events(self, event_ids, redact_behaviour=None, get_prev_content=False, allow_rejected=False):
        found = {event_id: self.events[event_id] for event_id in event_ids if event_id in self.events}
        return {key: event for key, event in found.items() if allow_rejected or event.rejected_reason is None}

    def chain(self, event_ids):
        """As get_auth_chain_difference of the database: the events themselves count."""
        seen, stack = set(), list(event_ids)
        while stack:
            event_id = stack.pop()
            if event_id not in seen and event_id in self.events:
                seen.add(event_id)
                stack.extend(self.events[event_id].auth_event_ids())
        return seen

    async def get_auth_chain_difference(self, room_id, state_sets, conflicted, additional):
        chains = [self.chain(state_set) for state_set in state_sets]
        difference = set.union(*chains) - set.intersection(*chains)
        subgraph = None if conflicted is None else self.subgraph(conflicted)
        return StateDifference(auth_difference=difference, conflicted_subgraph=subgraph)

    def subgraph(self, conflicted):
        below = self.chain(conflicted)
        citing = {}
        for event_id in below:
            for cited in self.events[event_id].auth_event_ids():
                citing.setdefault(cited, set()).add(event_id)
        above, stack = set(), list(conflicted)
        while stack:
            event_id = stack.pop()
            if event_id not in above:
                above.add(event_id)
                stack.extend(other for other in citing.get(event_id, ()) if other in below)
        return below & above


class Room:
    def __init__(self, case):
        self.version = KNOWN_ROOM_VERSIONS[case["version"]]
        self.events = {}
        for pdu in case["events"]:
            event = make_event_from_dict(pdu, self.version)
            self.events[event.event_id] = event
        for event_id in case["rejected"]:
            pdu = self.events[event_id].get_pdu_json()
            self.events[event_id] = make_event_from_dict(pdu, self.version, rejected_reason="refused")
        self.room_id = next(iter(self.events.values())).room_id
        self.store = Store(self.events)

    def answer(self, question):
        ask, *arguments = question
        return getattr(self, ask)(*arguments)

    def signed(self, event_id):
        event = self.events[event_id]
        event_auth.validate_event_for_room_version(event)
        asyncio.run(event_auth.check_state_independent_auth_rules(self.store, event))
        return True

    def allowed(self, event_id, state):
        event = self.events[event_id]
        event_auth.check_state_dependent_auth_rules(event, [self.events[other] for other in state])
        return True

    def resolve(self, state_sets):
        sets = [{(event_type, key): event_id for event_type, key, event_id in entries} for entries in state_sets]
        if self.version.state_res == StateResolutionVersions.V1:
            resolving = v1.resolve_events_with_store(self.room_id, self.version, sets, None, self.store.get_events)
        else:
            resolving = v2.resolve_events_with_store(Clock(), self.room_id, self.version, sets, None, self.store)
        return sorted([*key, event_id] for key, event_id in asyncio.run(resolving).items())


def ask(question, answer):
    try:
        return answer(question)
    except SynapseError:
        return False
    except Exception as error:
        return {"crash": repr(error)}


def forms(case):
    version = KNOWN_ROOM_VERSIONS[case["version"]]

    def of(pdu):
        event = make_event_from_dict(pdu, version)
        redacted = prune_event(event).get_pdu_json()
        redacted.pop("unsigned", None)
        return [event.event_id, redacted, encode_base64(compute_content_hash(event.get_pdu_json(), hashlib.sha256)[1])]

    return [ask(pdu, of) for pdu in case["events"]]


def main():
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        case = json.loads(line)
        if case["ask"] == "forms":
            answers = forms(case)
        else:
            room = Room(case)
            answers = [ask(question, room.answer) for question in case["questions"]]
        sys.stdout.write(json.dumps(answers) + "\n")
        sys.stdout.flush()


main()
