"""Push rules: whether, and how, a user is notified of an event (client-server API, "Push Rules").

A user's ruleset is compiled once and then asked for each event. Malformed rules match nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from annals.matrix.push_conditions import Condition, Occasion, condition_of
from annals.matrix.push_default_rules import KINDS, MASTER, Rule, Ruleset, default_ruleset


@dataclass(frozen=True, slots=True)
class Actions:
    """What the matching rule does."""

    notify: bool = False
    tweaks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def highlight(self) -> bool:
        """Whether the event is to be shown with emphasis, and counted as a highlight."""
        return self.notify and self.tweaks.get("highlight") is True

    @property
    def sound(self) -> str | None:
        """The sound to be played."""
        sound = self.tweaks.get("sound")
        return sound if self.notify and isinstance(sound, str) else None


NOTHING = Actions()


@dataclass(frozen=True, slots=True)
class CompiledRuleset:
    """A user's enabled rules, highest priority first."""

    user_id: str
    rules: tuple[tuple[tuple[Condition, ...], Actions], ...]

    def evaluate(self, occasion: Occasion) -> Actions:
        """The actions of the first rule that matches; `NOTHING` where none does."""
        # "Homeservers MUST NOT notify the Push Gateway for events that the user has sent themselves."
        if occasion.event.sender == self.user_id:
            return NOTHING
        for conditions, actions in self.rules:
            for condition in conditions:
                if not condition(occasion):
                    break
            else:
                return actions
        return NOTHING


def full_ruleset(
    user_id: str,
    own: Mapping[str, Sequence[Rule]],
    changed: Mapping[tuple[str, str], Mapping[str, Any]],
) -> Ruleset:
    """The user's rules as clients see them: their own ones by kind, before the predefined ones of that kind.

    `changed` holds what the user set on predefined rules: (kind, rule id) → `enabled`, `actions`.
    """
    rules: Ruleset = {}
    for kind, defaults in default_ruleset(user_id).items():
        predefined = [{**rule, **changed.get((kind, rule["rule_id"]), {})} for rule in defaults]
        # ".m.rule.master ... has always a higher priority than any other rule."
        first = [rule for rule in predefined if rule["rule_id"] == MASTER]
        rules[kind] = [*first, *own.get(kind, ()), *(rule for rule in predefined if rule["rule_id"] != MASTER)]
    return rules


def compile_ruleset(user_id: str, ruleset: Mapping[str, Sequence[Rule]]) -> CompiledRuleset:
    """The ruleset, ready to be evaluated. "Disabled rules never match." """
    return CompiledRuleset(
        user_id,
        tuple(
            (conditions, actions_of(rule.get("actions")))
            for kind in KINDS
            for rule in ruleset.get(kind, ())
            if rule.get("enabled", True) is True
            if (conditions := _conditions_of(kind, rule)) is not None
        ),
    )


def actions_of(actions: object) -> Actions:
    """What a rule's `actions` say; historical (`dont_notify`, `coalesce`) and unknown ones are ignored."""
    notify, tweaks = False, {}
    for action in actions if isinstance(actions, list) else []:
        if action == "notify":
            notify = True
        elif isinstance(action, dict) and isinstance(name := action.get("set_tweak"), str):
            # "If a highlight tweak is given with no value, its value is defined to be true."
            tweaks[name] = action.get("value", True if name == "highlight" else None)
    return Actions(notify, tweaks)


def _conditions_of(kind: str, rule: Rule) -> tuple[Condition, ...] | None:
    """The conditions that a rule stands for; None if it can never match."""
    rule_id = rule.get("rule_id")
    match kind:
        case "override" | "underride":
            listed = rule.get("conditions", [])
            if not isinstance(listed, list):
                return None
            conditions = [condition_of(condition) for condition in listed]
        case "content":
            conditions = [condition_of({"kind": "event_match", "key": "content.body", "pattern": rule.get("pattern")})]
        case "room":
            conditions = [lambda occasion: occasion.event.room_id == rule_id]
        case _:
            conditions = [lambda occasion: occasion.event.sender == rule_id]
    known = tuple(condition for condition in conditions if condition is not None)
    # "Unrecognised conditions MUST NOT match any events, effectively making the push rule disabled."
    return known if len(known) == len(conditions) else None
