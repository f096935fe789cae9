"""Server ACLs (m.room.server_acl): which servers may take part in a room.

Whoever the content names, the work is bounded: names without wildcards are looked up in a set, the others are globs
that are held against the name once each, and what came out for a content is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any

SERVER_ACL = ("m.room.server_acl", "")


@dataclass(frozen=True, slots=True)
class _Names:
    """A list of globs, ready to match."""

    literals: frozenset[str]
    globs: tuple[str, ...]

    @classmethod
    def of(cls, value: object) -> _Names:
        # What is no string names no server.
        texts = {text.lower() for text in value if type(text) is str} if type(value) is list else set()
        globs = {text for text in texts if "*" in text or "?" in text}
        return cls(frozenset(texts - globs), tuple(sorted(globs, key=len)))

    def match(self, host: str) -> bool:
        return host in self.literals or any(_matches(glob, host) for glob in self.globs)


@dataclass(frozen=True, slots=True)
class ServerAcl:
    """The ACL of a room, as one m.room.server_acl event says it."""

    allow: _Names
    deny: _Names
    allow_ip_literals: bool
    _known: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, content: Mapping[str, Any] | None) -> ServerAcl | None:
        """The ACL of the event's content; None where the room has no such event: then everybody may."""
        if content is None:
            return None
        # "allow_ip_literals … Defaults to `true` if missing or otherwise not a boolean."
        literals = content.get("allow_ip_literals")
        return cls(_Names.of(content.get("allow")), _Names.of(content.get("deny")), literals is not False)

    def allows(self, server_name: str) -> bool:
        """Whether the server may take part."""
        known = self._known.get(server_name)
        if known is None:
            known = self._known[server_name] = self._judge(host_of(server_name).lower())
            if len(self._known) > 10_000:
                self._known.clear()
        return known

    def _judge(self, host: str) -> bool:
        # "If the server name is an IP address (v4 or v6) literal, and allow_ip_literals is present and false, deny."
        if not self.allow_ip_literals and _is_ip_literal(host):
            return False
        # "If the server name matches an entry in the deny list, deny."
        if self.deny.match(host):
            return False
        # "If the server name matches an entry in the allow list, allow. Otherwise, deny."
        return self.allow.match(host)


def host_of(server_name: str) -> str:
    """The name without its port: "Each ACL entry … matched against the server name, … without port"."""
    host, colon, port = server_name.rpartition(":")
    # The colons of an IPv6 literal stand in brackets, and end before its port.
    return host if colon and port.isdecimal() and not (server_name.startswith("[") and "]" not in host) else server_name


def _is_ip_literal(host: str) -> bool:
    try:
        IPv6Address(host[1:-1]) if host.startswith("[") else IPv4Address(host)
    except AddressValueError:
        return False
    return True


@lru_cache(maxsize=4_096)
def _runs(glob: str) -> tuple[str, ...]:
    return tuple(glob.split("*"))


def _matches(glob: str, host: str) -> bool:
    """`*` is any run of characters, `?` any one character. Each run between stars is put at the leftmost place where
    it fits, from where the one before it ended: there is nothing to go back to, whatever others write."""
    first, *rest = _runs(glob)
    if not _fits(first, host, 0):
        return False
    if not rest:
        return len(first) == len(host)
    at = len(first)
    for run in rest[:-1]:
        place = _find(run, host, at)
        if place < 0:
            return False
        at = place + len(run)
    last = len(host) - len(rest[-1])
    return last >= at and _fits(rest[-1], host, last)


def _fits(run: str, host: str, at: int) -> bool:
    if "?" not in run:
        return host.startswith(run, at)
    part = host[at : at + len(run)]
    return len(part) == len(run) and all(wanted in ("?", got) for wanted, got in zip(run, part, strict=True))


def _find(run: str, host: str, at: int) -> int:
    if "?" not in run:
        return host.find(run, at)
    return next((place for place in range(at, len(host) - len(run) + 1) if _fits(run, host, place)), -1)
