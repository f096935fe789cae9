"""Where a server is reached: from its name to hosts, ports, certificate name and Host header.

Server-server API, "Resolving server names"; the numbers of its steps stand beside the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from annals.federation.errors import Unreachable
from annals.federation.names import NameLookupFailed, Names, SrvRecord
from annals.federation.well_known import WellKnown
from annals.matrix.identifiers import is_server_name

DEFAULT_PORT = 8448
_SRV_SERVICES = ("_matrix-fed._tcp", "_matrix._tcp")
_NAME = re.compile(r"(?P<host>\[[^\]]+\]|[^:]+)(?::(?P<port>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class Target:
    """One place to connect to, and what to expect and say there."""

    host: str
    """Connect here: a name or a literal address (without brackets)."""
    port: int
    certificate_name: str
    """The certificate must be valid for it; a literal address, or a name that goes into SNI too."""
    host_header: str


@dataclass(frozen=True, slots=True)
class SplitName:
    """A server name in its parts; `host` without brackets."""

    host: str
    port: int | None
    is_literal: bool


def split_server_name(name: str) -> SplitName | None:
    """The parts of a server name; None for what is none, or has a port that does not exist."""
    found = _NAME.fullmatch(name) if is_server_name(name) else None
    if found is None:
        return None
    host, port = found["host"].strip("[]"), int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port <= 65_535:
        return None
    return SplitName(host, port, _is_literal(host))


class Discovery:
    """Finds servers. Well-known answers and SRV records are cached where they are looked up."""

    def __init__(self, names: Names, well_known: WellKnown, chance: Callable[[], float]) -> None:
        self._names, self._well_known, self._chance = names, well_known, chance

    async def targets(self, server: str) -> list[Target]:
        """Where the server is reached, best first; raises `Unreachable`."""
        parts = split_server_name(server)
        if parts is None:
            raise Unreachable(server, "not a server name")
        # "1. If the hostname is an IP literal, then that IP address should be used, together with the given port
        # number, or 8448 if no port is given." "2. ... and the server name includes an explicit port"
        if parts.is_literal or parts.port is not None:
            return [_direct(server, parts)]
        # "3. ... a regular HTTPS request is made to `https://<hostname>/.well-known/matrix/server`"
        delegated = await self._well_known.delegation(parts.host)
        if delegated is not None and (to := split_server_name(delegated)) is not None:
            # 3.1, 3.2: as 1 and 2, of the delegated name
            if to.is_literal or to.port is not None:
                return [_direct(delegated, to)]
            # 3.3 to 3.5
            return await self._by_service(server, delegated)
        # 4 to 6
        return await self._by_service(server, parts.host)

    async def _by_service(self, server: str, hostname: str) -> list[Target]:
        # "The target server must present a valid certificate for `<hostname>`", wherever SRV records point.
        # The service that IANA registered first; the deprecated one where there is no record of the first.
        for service in _SRV_SERVICES:
            try:
                records = await self._names.services(f"{service}.{hostname}")
            except NameLookupFailed:
                # Going on is safe, as the certificate has to be valid for the name wherever we connect; and servers
                # whose name servers choke on SRV are reached.
                records = []
            # RFC 2782: "A Target of "." means that the service is decidedly not available at this domain."
            if records and all(record.host in ("", ".") for record in records):
                raise Unreachable(server, f"{service}.{hostname} says that there is no such service")
            if records:
                return [Target(r.host, r.port, hostname, hostname) for r in self._in_order(records)]
        # "If no SRV record is found, an IP address is resolved ... and a port of 8448"
        return [Target(hostname, DEFAULT_PORT, hostname, hostname)]

    def _in_order(self, records: Iterable[SrvRecord]) -> list[SrvRecord]:
        """RFC 2782: lower priorities first; among equals chance decides, by weight."""
        left = sorted(
            (record for record in records if record.host not in ("", ".") and record.port),
            key=lambda r: (r.priority, r.weight, r.host, r.port),
        )
        ordered = []
        while left:
            equals = [record for record in left if record.priority == left[0].priority]
            point, chosen = self._chance() * sum(r.weight for r in equals), equals[-1]
            for record in equals:
                point -= record.weight
                if point < 0:
                    chosen = record
                    break
            left.remove(chosen)
            ordered.append(chosen)
        return ordered


def _direct(name: str, parts: SplitName) -> Target:
    # "The `Host` header in the request should be set to the server name, including the port if the server name
    # included one."
    return Target(parts.host, parts.port or DEFAULT_PORT, parts.host, name)


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
