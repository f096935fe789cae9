"""What users of a random room try: joins, invitations, bans, fights over power, contents that no client would send."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from annals.matrix.events import Event, StateKey
from annals.matrix.room_versions import RoomRules
from annals.matrix.signing import SigningKey, sign_json

USERS = ("@alice:a", "@bob:b", "@carol:c", "@dave:a", "@erin:b")
TOKEN = "token"
ODD: tuple[Any, ...] = (None, True, 1, "x", [], {}, {"a": 1}, ["a"], -5, "")
JOIN_RULES = ("public", "public", "restricted", "knock", "invite", "knock_restricted", "private")
NAMED_LEVELS = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")
_INVITER = SigningKey("ed25519:0", b"i" * 32)
_INVITER_PUBLIC = _INVITER.verify_key.base64

POWER: StateKey = ("m.room.power_levels", "")
RULE: StateKey = ("m.room.join_rules", "")


@dataclass(frozen=True, slots=True)
class Wish:
    """An event that somebody wants to send."""

    type: str
    sender: str
    state_key: str | None
    content: dict[str, Any]


class Wishes:
    """Makes wishes that suit a state, mostly."""

    def __init__(self, rng: Random, rules: RoomRules, creator: str, additional: list[str], odd: bool) -> None:
        self.rng, self.rules = rng, rules
        self.creator, self.creators = creator, {creator, *additional}
        self._odd = odd

    def beginning(self) -> list[Wish]:
        """The creator joins, takes power, opens the door (or not)."""
        users = {} if self.rules.creators_have_infinite_power else {self.creator: 100}
        rule = self.rng.choice(["public", "public", "public", *JOIN_RULES])
        return [
            Wish("m.room.member", self.creator, self.creator, {"membership": "join"}),
            Wish("m.room.power_levels", self.creator, "", {"users": users}),
            Wish("m.room.join_rules", self.creator, "", {"join_rule": rule}),
        ]

    def next(self, state: dict[StateKey, Event]) -> Wish:
        """Something to try in this state."""
        rng = self.rng
        members = {key[1]: event.content.get("membership") for key, event in state.items() if key[0] == "m.room.member"}
        joined = [user for user in USERS if members.get(user) == "join"]
        outside = [user for user in USERS if user not in joined]
        if outside and rng.random() < 0.25:
            return self._enter(rng.choice(outside))
        sender = rng.choice(joined) if joined and rng.random() < 0.9 else rng.choice(USERS)
        if self.creator in joined and rng.random() < 0.35:
            sender = self.creator
        wishes: list[tuple[int, Callable[[str, dict[StateKey, Event]], Wish]]] = [
            *((8, self._enter_again), (42, self._moderate), (16, self._levels), (9, self._join_rule)),
            *((10, self._topic), (4, self._keyed), (4, self._third_party), (4, self._redact), (3, self._aliases)),
            (5, self._say),
        ]
        return rng.choices([make for _, make in wishes], [weight for weight, _ in wishes])[0](sender, state)

    def oddly(self, value: Any) -> Any:
        """The value, or now and then something that does not belong there."""
        return self.rng.choice(ODD) if self._odd and self.rng.random() < 0.08 else value

    def _enter(self, user: str) -> Wish:
        content = {"membership": self.oddly(self.rng.choice(["join", "join", "join", "join", "knock", "leave"]))}
        if self.rng.random() < 0.4:
            content["join_authorised_via_users_server"] = self.oddly(self.rng.choice(USERS))
        target = user if self.rng.random() < 0.97 else self.rng.choice(USERS)
        return Wish("m.room.member", user, target, content)

    def _enter_again(self, sender: str, state: dict[StateKey, Event]) -> Wish:
        return self._enter(sender)

    def _moderate(self, sender: str, state: dict[StateKey, Event]) -> Wish:
        target = self.rng.choice(USERS)
        content: dict[str, Any] = {"membership": self.rng.choice(["invite", "invite", "leave", "ban"])}
        if self.rng.random() < 0.08:
            content = {"membership": "invite", "third_party_invite": self._signed_for(target)}
        return Wish("m.room.member", sender, target, content)

    def _signed_for(self, target: str) -> Any:
        if self._odd and self.rng.random() < 0.3:
            return {"signed": self.rng.choice(ODD)}
        signed = {"mxid": self.rng.choice([target, target, target, *USERS]), "token": TOKEN}
        invite = {"display_name": "x", "signed": sign_json(signed, "id", _INVITER)}
        return invite if self.rng.random() < 0.9 else {"signed": signed | {"signatures": {}}}

    def _third_party(self, sender: str, state: dict[StateKey, Event]) -> Wish:
        key = _INVITER_PUBLIC if self.rng.random() < 0.8 else SigningKey("ed25519:0", b"o" * 32).verify_key.base64
        content = {"public_key": key} if self.rng.random() < 0.5 else {"public_keys": [{"public_key": key}]}
        return Wish("m.room.third_party_invite", sender, TOKEN, content if self.rng.random() < 0.9 else {})

    def _levels(self, sender: str, state: dict[StateKey, Event]) -> Wish:
        rng, old = self.rng, state.get(POWER)
        users = {} if self.rules.creators_have_infinite_power else {self.creator: 100}
        content: dict[str, Any] = {"users": users}
        if old is not None and rng.random() < 0.8:
            content = json.loads(json.dumps(old.content))
        for _ in range(rng.randint(0, 3)):
            self._change_level(content)
        if self.rules.creators_have_infinite_power and rng.random() < 0.7 and isinstance(content.get("users"), dict):
            content["users"] = {user: level for user, level in content["users"].items() if user not in self.creators}
        if self._odd and rng.random() < 0.1:
            # Where levels need not be integers Synapse refuses odd `users` only; on the others it falls over later.
            content[rng.choice([*NAMED_LEVELS, "events"]) if self.rules.integer_power_levels else "users"] = rng.choice(
                ODD
            )
        return Wish("m.room.power_levels", sender, "" if rng.random() < 0.97 else rng.choice(["x", sender]), content)

    def _change_level(self, content: dict[str, Any]) -> None:
        rng = self.rng
        change = rng.randrange(7)
        entries = "users" if change <= 2 else rng.choice(["events", "notifications"])
        if change <= 2 or change == 4:
            names = USERS if entries == "users" else ("m.room.topic", "m.room.message", "m.room.power_levels", "room")
            if isinstance(content.setdefault(entries, {}), dict):
                content[entries][rng.choice(names)] = self._level(may_be_odd=entries == "users")
        elif change == 3:
            content[rng.choice(NAMED_LEVELS)] = self._level(may_be_odd=False)
        elif change == 5 and content:
            content.pop(rng.choice(sorted(content)))
        elif isinstance(content.get("users"), dict) and content["users"]:
            content["users"].pop(rng.choice(sorted(content["users"])))

    def _level(self, may_be_odd: bool) -> Any:
        rng = self.rng
        level = rng.choice([0, 10, 25, 50, 50, 60, 75, 100, -1])
        if not self.rules.integer_power_levels and rng.random() < 0.25:
            spellings: list[Any] = [str(level), f" {level}\t", f"{level:+05}", "1_0", "٥٠", True, False]
            if not self.rules.strict_canonical_json:
                spellings += [level + 0.5, float(level), 5.114698e1]
            return rng.choice(spellings)
        return self.oddly(level) if may_be_odd or self.rules.integer_power_levels else level

    def _join_rule(self, sender: str, state: dict[StateKey, Event]) -> Wish:
        content = {"join_rule": self.oddly(self.rng.choice(JOIN_RULES))} if self.rng.random() < 0.97 else {}
        return Wish("m.room.join_rules", sender, "", content)

    def _topic(self, sender: str, state: dict[StateKey, Event]) -> Wish:
        return Wish("m.room.topic", sender, "", {"topic": str(self.rng.random())})

    def _keyed(self, sender: str, state: dict[StateKey, Event]) -> Wish:
        return Wish("org.example.x", sender, self.rng.choice([*USERS, sender, "q"]), {})

    def _aliases(self, sender: str, state: dict[StateKey, Event]) -> Wish:
        return Wish("m.room.aliases", sender, self.rng.choice(["a", "b", "c", "", None]), {"aliases": []})

    def _redact(self, sender: str, state: dict[StateKey, Event]) -> Wish:
        return Wish("m.room.redaction", sender, None, {"redacts": self.rng.choice(["$x:a", "$x:b", "$x:c", "$x"])})

    def _say(self, sender: str, state: dict[StateKey, Event]) -> Wish:
        return Wish("m.room.message", sender, None, {"body": "x"})
