"""What asking another server can end in.

FederationError
├── Unreachable         no connection, no certificate, no answer in time; try again later
│   ├── AddressRefused  its address is one that we do not connect to
│   └── AnswerLost      the connection broke inside the answer
├── BadAnswer           an answer came and is not what the specification has
│   └── AnswerTooLarge  larger than we accept
└── Refused             the server answered with an error of its own
"""

from __future__ import annotations


class FederationError(Exception):
    """Base of everything that a request to another server raises. `server` is its name before delegation."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"{server}: {reason}")
        self.server, self.reason = server, reason


class Unreachable(FederationError):
    """No answer could be had. `was_never_sent`: for sure the server has not got the request."""

    def __init__(self, server: str, reason: str, *, was_never_sent: bool = False) -> None:
        super().__init__(server, reason)
        self.was_never_sent = was_never_sent


class AddressRefused(Unreachable):
    """The server's address lies in a range that we do not connect to."""


class AnswerLost(Unreachable):
    """The connection broke, or time ran out, inside the answer."""


class BadAnswer(FederationError):
    """The answer is not what the specification has."""


class AnswerTooLarge(BadAnswer):
    """The answer is larger than the caller accepts."""


class Refused(FederationError):
    """The server answered with an error. `errcode` is "" where the body was none of Matrix."""

    def __init__(self, server: str, status: int, errcode: str, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(server, f"{status} {errcode} {message}".strip())
        self.status, self.errcode, self.message, self.retry_after_ms = status, errcode, message, retry_after_ms

    @property
    def is_final(self) -> bool:
        """Whether asking the same again makes no sense: the server understood, and refuses."""
        return 400 <= self.status < 500 and self.status not in (401, 408, 429)
