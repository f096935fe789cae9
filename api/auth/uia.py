"""User-interactive authentication ("User-Interactive Authentication API").

Every flow here has a single stage, so a session has nothing to remember: whichever process a client's second request
reaches finishes what the first began, and no session outlives or fills anything.
"""

from __future__ import annotations

import secrets
from typing import Any

from starlette.responses import Response

from annals.api.answers import answer
from annals.api.errors import bad_json

DUMMY = "m.login.dummy"


class AuthenticationNeeded(Exception):
    """The client has to go through a flow: 401 with the flows. `content` is the whole answer."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__("authentication needed")
        self.content = content


def require_dummy(body: dict[str, Any]) -> None:
    """Pass a request whose `auth` completes m.login.dummy; raise AuthenticationNeeded for every other one.

    "In the first request, the client has no auth key": it gets the flows and a session. A stage that we did not offer
    is answered the same way, with an error beside it.
    """
    auth = body.get("auth")
    if auth is None:
        raise AuthenticationNeeded(_flows(secrets.token_urlsafe(18)))
    if not isinstance(auth, dict):
        raise bad_json("auth must be an object")
    session = auth.get("session")
    if session is not None and not isinstance(session, str):
        raise bad_json("auth.session must be a string")
    stage = auth.get("type")
    if stage == DUMMY:
        return
    content = _flows(session or secrets.token_urlsafe(18))
    # A request with nothing but the session asks how far it has come.
    if stage is not None:
        content |= {"errcode": "M_UNKNOWN", "error": "This stage is not offered"}
    raise AuthenticationNeeded(content)


def needed_answer(needed: AuthenticationNeeded) -> Response:
    """The 401 that leads a client into the flow."""
    return answer(needed.content, 401)


def _flows(session: str) -> dict[str, Any]:
    return {"flows": [{"stages": [DUMMY]}], "params": {}, "session": session, "completed": []}
