"""Application services that may call us, and what is theirs (application-service API, "Registration").

An application service speaks for the user of its `sender_localpart`, and for those users of this server in its
namespaces who have an account. In an exclusive namespace nobody else makes users or aliases; outside of its namespaces
it makes none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from annals.api.errors import ApiError


@dataclass(frozen=True, slots=True)
class Namespace:
    """User ids or aliases, those that begin with a match. `exclusive`: nobody else may make one of them."""

    pattern: re.Pattern[str]
    exclusive: bool

    def has(self, name: str) -> bool:
        """Whether a user id or an alias is one of them."""
        return self.pattern.match(name) is not None


@dataclass(frozen=True, slots=True)
class Appservice:
    """One service: its token, the user that it is where it names none, and its namespaces."""

    appservice_id: str
    token: str
    sender: str
    users: tuple[Namespace, ...] = ()
    aliases: tuple[Namespace, ...] = ()

    def has_user(self, user_id: str) -> bool:
        """Whether it may be a user of this server of this id."""
        return user_id == self.sender or any(namespace.has(user_id) for namespace in self.users)

    def has_alias(self, alias: str) -> bool:
        """Whether it may have an alias of this server."""
        return any(namespace.has(alias) for namespace in self.aliases)

    def keeps_user(self, user_id: str) -> bool:
        """Whether nobody else may make this user."""
        return user_id == self.sender or _is_kept(self.users, user_id)

    def keeps_alias(self, alias: str) -> bool:
        """Whether nobody else may make this alias, or remove it."""
        return _is_kept(self.aliases, alias)


def check_user(appservices: Mapping[str, Appservice], user_id: str, by: Appservice | None) -> None:
    """Whether a service, or somebody else (None), may make a user; 400 M_EXCLUSIVE."""
    if by is not None and not by.has_user(user_id):
        raise exclusive("This user is not in a namespace of the application service")
    if any(other is not by and other.keeps_user(user_id) for other in appservices.values()):
        raise exclusive("This user name is kept for an application service")


def check_alias(appservices: Mapping[str, Appservice], alias: str, by: Appservice | None) -> None:
    """The same for an alias, which may be made or removed."""
    if by is not None and not by.has_alias(alias):
        raise exclusive("This alias is not in a namespace of the application service")
    if any(other is not by and other.keeps_alias(alias) for other in appservices.values()):
        raise exclusive("This alias is kept for an application service")


def exclusive(error: str, status: int = 400) -> ApiError:
    """M_EXCLUSIVE."""
    return ApiError(status, "M_EXCLUSIVE", error)


def _is_kept(namespaces: tuple[Namespace, ...], name: str) -> bool:
    return any(namespace.exclusive and namespace.has(name) for namespace in namespaces)
