"""Identifiers and their grammars (appendices, "Identifier Grammar").

Two questions are kept apart: what other servers may send (historical user ids included) and what we let our own users
make. A room id is opaque: nothing here finds a server in one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

from annals.matrix.errors import InvalidIdentifier

IDENTIFIER_BYTES_MAX = 255

_SERVER_NAME = re.compile(
    r"(?: (?P<dns>[0-9A-Za-z.-]{1,255}) | \[ (?P<ipv6>[0-9A-Fa-f:.]{2,45}) \] ) (?: :[0-9]{1,5} )?",
    re.ASCII | re.VERBOSE,
)
_DOTTED_QUAD = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", re.ASCII)
_OWN_LOCALPART = re.compile(r"[a-z0-9._=/+-]+", re.ASCII)
_HASHED_ID = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_NAMESPACED = re.compile(r"[a-z][a-z0-9._-]{0,254}", re.ASCII)


@lru_cache(maxsize=10_000)
def is_server_name(name: str) -> bool:
    """Whether `name` is in the grammar of server names (hostname, optional port)."""
    found = _SERVER_NAME.fullmatch(name)
    if found is None:
        return False
    if (ipv6 := found["ipv6"]) is not None:
        try:
            IPv6Address(ipv6)
        except AddressValueError:
            return False
        return True
    # "IPv4 literals must be a sequence of four decimal numbers in the range 0 to 255"
    host: str = found["dns"]
    return _DOTTED_QUAD.fullmatch(host) is None or all(int(part) <= 255 for part in host.split("."))


@lru_cache(maxsize=50_000)
def is_user_id(user_id: str) -> bool:
    """Whether events may carry this user id. Historical ones pass: any localpart without `:` and NUL, even empty."""
    return user_id.startswith("@") and _is_localpart_and_domain(user_id)


def is_new_user_id(user_id: str) -> bool:
    """Whether we may make this user id today (grammar without the historical allowance)."""
    return is_user_id(user_id) and _OWN_LOCALPART.fullmatch(user_id[1:].partition(":")[0]) is not None


def is_room_alias(alias: str) -> bool:
    """Whether `alias` is `#localpart:domain`."""
    return alias.startswith("#") and _is_localpart_and_domain(alias)


def is_room_id(room_id: str) -> bool:
    """Whether `room_id` can name a room of some version: `!` and an opaque part, at most 255 bytes, no NUL."""
    return len(room_id) > 1 and room_id[0] == "!" and "\0" not in room_id and _fits(room_id)


@lru_cache(maxsize=10_000)
def is_hashed_room_id(room_id: str) -> bool:
    """Whether `room_id` has the form that version-12 rooms have: `!` and the create event's hash."""
    return room_id.startswith("!") and _HASHED_ID.fullmatch(room_id, 1) is not None


def is_event_id(event_id: str) -> bool:
    """Whether `event_id` can name an event of some room version: `$` and an opaque part, at most 255 bytes."""
    return len(event_id) > 1 and event_id[0] == "$" and "\0" not in event_id and _fits(event_id)


def is_namespaced(identifier: str) -> bool:
    """Whether `identifier` is in the Common Namespaced Identifier Grammar."""
    return _NAMESPACED.fullmatch(identifier) is not None


def domain_of(identifier: str) -> str:
    """The server name in a user id or room alias. Refuses room ids and event ids: theirs means nothing."""
    sigil, (_, colon, domain) = identifier[:1], identifier.partition(":")
    if sigil not in ("@", "#") or not colon:
        raise InvalidIdentifier(f"no user id or alias: {identifier[:300]!r}")
    return domain


def _is_localpart_and_domain(identifier: str) -> bool:
    localpart, colon, domain = identifier[1:].partition(":")
    return bool(colon) and "\0" not in localpart and _fits(identifier) and is_server_name(domain)


def _fits(identifier: str) -> bool:
    try:
        return len(identifier.encode("utf-8")) <= IDENTIFIER_BYTES_MAX
    except UnicodeEncodeError:  # lone surrogates
        return False
