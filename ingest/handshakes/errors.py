"""Why an attempt with one server came to nothing.

AttemptFailed
├── TemplateRefused   make_*: not a template of what we asked for; nothing was signed
├── AnswerRefused     send_*: the answer does not hold what a room must
└── ServerRefused     the server said no, in words of its own
"""

from __future__ import annotations


class AttemptFailed(Exception):
    """This server does not help. The rest of the handshake goes on with the next one.

    `status` and `errcode` are what the user's client hears if no other server helps.
    """

    def __init__(self, reason: str, status: int = 502, errcode: str = "M_UNKNOWN") -> None:
        super().__init__(reason)
        self.reason, self.status, self.errcode = reason, status, errcode


class TemplateRefused(AttemptFailed):
    """What the server would have us sign is not what we asked for."""


class AnswerRefused(AttemptFailed):
    """What the server answered to our event cannot be believed, or used."""


class ServerRefused(AttemptFailed):
    """The server understood, and refused: its own status and error code."""
