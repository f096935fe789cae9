"""Verdicts on skeletons equal verdicts on whole events: erasing what people wrote changes no room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import pytest

from annals.matrix.auth_rules import allowed, check_auth_events
from annals.matrix.events import Event, StateKey, event_of, skeleton
from annals.matrix.room_versions import ROOM_VERSIONS, EventIdFormat, RoomRules
from annals.matrix.signing import SigningKey, sign_json
from tests.support.soak import is_soak

USERS = ["@alice:a", "@bob:b", "@carol:c"]
ROOM_HASH = "r" * 43
INVITER_KEY = SigningKey("ed25519:0", b"k" * 32)
INVITER_PUBLIC = INVITER_KEY.verify_key.base64
LEVELS: list[Any] = [0, 0, 49, 50, 51, 100]
ODD_LEVELS = [*LEVELS, "50", " 51 ", "x", None, True, 49.9]
NAMED_LEVELS = ["ban", "kick", "invite", "redact", "users_default", "events_default", "state_default"]
MEMBERSHIPS = ["join", "join", "join", "join", "invite", "invite", "leave", "ban", "knock"]
JOIN_RULES = ["public", "invite", "knock", "restricted", "knock_restricted", "private"]
STATE_KEYS = [None, "", "token", *USERS]
STATE_KEYS_OF: dict[str, list[str | None]] = {"m.room.member": [*USERS], "m.room.aliases": [None, "a", "b"]}
CASES, CASES_IN_SOAK = 700, 10_000


class Case:
    """An event and a state that it may or may not be allowed in, by chance."""

    def __init__(self, rules: RoomRules, rng: Random) -> None:
        self.rules, self.rng = rules, rng
        state = [self.event("$" + ROOM_HASH, "m.room.create", USERS[0], "")]
        state += [self.event(f"${user}", "m.room.member", user, user) for user in USERS]
        for event_type in ("m.room.power_levels", "m.room.join_rules", "m.room.third_party_invite"):
            state_key = "token" if event_type == "m.room.third_party_invite" else ""
            if rng.random() < 0.7:
                state.append(self.event(f"${event_type}", event_type, rng.choice(USERS), state_key))
        self.state: dict[StateKey, Event] = {event.key: event for event in state}
        event_type = rng.choice(list(CONTENTS) + ["m.room.member"] * 5)
        state_keys = STATE_KEYS_OF.get(event_type, STATE_KEYS)
        self.judged = self.event("$judged:a", event_type, rng.choice(USERS), rng.choice(state_keys))
        shown = self.state.get(("m.room.third_party_invite", "token"))
        if shown is not None and rng.random() < 0.1:
            target = rng.choice(USERS)
            self.judged = self.event("$judged:a", "m.room.member", shown.sender, target)
            signed = signed_for(target, "token")
            self.judged.content.update({"membership": "invite", "third_party_invite": {"signed": signed}})

    def event(self, event_id: str, event_type: str, sender: str, state_key: str | None) -> Event:
        content = CONTENTS[event_type](self.rng) | {"displayname": "secret", "topic": "secret"}
        pdu: dict[str, Any] = {"type": event_type, "sender": sender, "content": content, "depth": 1}
        pdu |= {"origin_server_ts": 1, "hashes": {"sha256": "h"}, "signatures": {}, "auth_events": []}
        if self.rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
            pdu["event_id"] = event_id
            pdu["prev_events"] = [] if event_type == "m.room.create" else [["$p", {}]]
        else:
            pdu["prev_events"] = [] if event_type == "m.room.create" else ["$p"]
        if event_type == "m.room.redaction" and self.rng.random() < 0.8:
            pdu["redacts"] = self.rng.choice(["$x:a", "$x:b", "$x"])
        if state_key is not None:
            pdu["state_key"] = state_key
        if not (event_type == "m.room.create" and state_key == "" and self.rules.room_id_is_create_hash):
            pdu["room_id"] = "!" + ROOM_HASH if self.rules.room_id_is_create_hash else "!room:a"
        return event_of(pdu, self.rules, event_id)


@cache
def signed_for(target: str, token: str) -> dict[str, Any]:
    """What the identity server signs; nobody changes it."""
    return sign_json({"mxid": target, "token": token}, "id", INVITER_KEY)


def some(rng: Random, values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if rng.random() < 0.5}


def create(rng: Random) -> dict[str, Any]:
    creators = [rng.choice([*USERS, "nobody"])] if rng.random() < 0.9 else None
    values = {"m.federate": rng.random() < 0.8, "creator": rng.choice(USERS), "additional_creators": creators}
    return some(rng, values | {"room_version": rng.choice(["1", "10", "11", "12", "unknown"])})


def power_levels(rng: Random) -> dict[str, Any]:
    levels = ODD_LEVELS if rng.random() < 0.3 else LEVELS
    values: dict[str, Any] = {name: rng.choice(levels) for name in NAMED_LEVELS}
    for name in ("users", "events", "notifications"):
        keys = rng.sample([*USERS, "m.room.topic", "room"] if name != "users" else USERS, 2)
        values[name] = {key: rng.choice(levels) for key in keys} if rng.random() < 0.95 else None
    return some(rng, values)


def member(rng: Random) -> dict[str, Any]:
    content: dict[str, Any] = {"membership": rng.choice(MEMBERSHIPS)} if rng.random() < 0.98 else {}
    if rng.random() < 0.2:
        content["join_authorised_via_users_server"] = rng.choice([*USERS, None])
    if rng.random() < 0.3:
        signed = signed_for(rng.choice(USERS), rng.choice(["token", "token", "other"]))
        invite = {"display_name": "secret", "signed": signed}
        content["third_party_invite"] = rng.choice([invite, invite, invite, {"display_name": "secret"}, {}, None])
    return content


def third_party_invite(rng: Random) -> dict[str, Any]:
    keys = [{"public_key": INVITER_PUBLIC}]
    return some(rng, {"public_key": rng.choice([INVITER_PUBLIC, "other"]), "public_keys": keys, "display_name": "x"})


CONTENTS: dict[str, Callable[[Random], dict[str, Any]]] = {
    "m.room.create": create,
    "m.room.power_levels": power_levels,
    "m.room.join_rules": lambda rng: {"join_rule": rng.choice(JOIN_RULES), "allow": []},
    "m.room.member": member,
    "m.room.third_party_invite": third_party_invite,
    "m.room.topic": lambda rng: {},
    "m.room.aliases": lambda rng: {"aliases": []},
    "m.room.redaction": lambda rng: {"redacts": "$x", "reason": "secret"},
}


def bare(event: Event) -> Event:
    return event_of(skeleton(event.pdu, event.rules), event.rules, event.event_id)


@pytest.mark.parametrize("rules", ROOM_VERSIONS.values(), ids=repr)
def test_skeletons_are_judged_as_the_events_are(rules: RoomRules, request: pytest.FixtureRequest) -> None:
    cases = CASES_IN_SOAK if is_soak(request.config) else CASES
    rng = Random(rules.version)
    verdicts: Counter[str] = Counter()
    for _ in range(cases):
        case = Case(rules, rng)
        bare_event, bare_state = bare(case.judged), {key: bare(event) for key, event in case.state.items()}
        assert "secret" not in str(bare_event.content) or rules.redaction.whole_create
        verdict = allowed(case.judged, case.state)
        assert allowed(bare_event, bare_state) == verdict, (case.judged.pdu, case.state)
        cited = check_auth_events(case.judged, [(event, False) for event in case.state.values()])
        assert check_auth_events(bare_event, [(event, False) for event in bare_state.values()]) == cited
        verdicts["allowed" if verdict is None else verdict.rule] += 1
    # The comparison means something: most rules spoke, and many events passed.
    assert verdicts["allowed"] > cases // 20, verdicts
    assert len(verdicts) > 25, verdicts
