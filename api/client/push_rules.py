"""Push rules ("Push Rules"): the server's default rules, which cannot be changed yet."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.tokens import WithRequester
from annals.api.errors import invalid_param, not_found
from annals.matrix.push_default_rules import KINDS, default_ruleset

router = APIRouter()

_GLOBAL = "/_matrix/client/v3/pushrules/global"
_RULE = _GLOBAL + "/{kind:id}/{rule_id:id}"


def push_rules_content(user_id: str) -> dict[str, Any]:
    """The ruleset of a user, as GET /pushrules/ and the account data m.push_rules have it."""
    return {"global": default_ruleset(user_id)}


@router.get("/_matrix/client/v3/pushrules")
@router.get("/_matrix/client/v3/pushrules/")
async def all_push_rules(requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/pushrules/."""
    return answer(push_rules_content(requester.user_id))


@router.get(_GLOBAL)
@router.get(_GLOBAL + "/")
async def global_push_rules(requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/pushrules/global/."""
    return answer(default_ruleset(requester.user_id))


@router.get(_RULE)
async def push_rule(kind: str, rule_id: str, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}."""
    return answer(_rule(requester.user_id, kind, rule_id))


@router.get(_RULE + "/actions")
async def push_rule_actions(kind: str, rule_id: str, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions."""
    return answer({"actions": _rule(requester.user_id, kind, rule_id)["actions"]})


@router.get(_RULE + "/enabled")
async def push_rule_enabled(kind: str, rule_id: str, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled."""
    return answer({"enabled": _rule(requester.user_id, kind, rule_id)["enabled"]})


def _rule(user_id: str, kind: str, rule_id: str) -> dict[str, Any]:
    if kind not in KINDS:
        raise invalid_param("Unknown kind of push rule")
    for rule in default_ruleset(user_id)[kind]:
        if rule["rule_id"] == rule_id:
            return dict(rule)
    raise not_found("No such push rule")
