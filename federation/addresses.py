"""Which addresses may be connected to: the guard against being sent to our own house (SSRF).

The check is made on the very address that a socket is about to connect to, after names were looked up, for each
connection: a name that pointed elsewhere a moment ago (DNS rebinding), a redirect, a delegation and an SRV record all
end here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
"""As `socket.getaddrinfo` gives it: family, type, protocol, canonical name, socket address."""

DENIED_BY_DEFAULT: tuple[str, ...] = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
    *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    *("::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:db8::/32"),
    *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
)
"""What no public server has: private, loopback, link-local (cloud metadata), documentation, multicast."""

_TRANSLATED = ip_network("64:ff9b::/96")
_COMPATIBLE = ip_network("::/96")


class AddressDenied(OSError):
    """The address is not one to connect to."""


@dataclass(frozen=True, slots=True)
class AddressFilter:
    """What is `allowed` passes, though it be denied; what is `denied` does not; everything else passes."""

    denied: tuple[Network, ...]
    allowed: tuple[Network, ...] = ()

    @classmethod
    def of(cls, denied: Iterable[str] = DENIED_BY_DEFAULT, allowed: Iterable[str] = ()) -> AddressFilter:
        """From ranges as text ("10.0.0.0/8"); raises ValueError for one that is none."""
        return cls(tuple(map(ip_network, denied)), tuple(map(ip_network, allowed)))

    def permits(self, address: str) -> bool:
        """Whether a connection to this address (literal, a scope id is ignored) may be made."""
        try:
            target = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        forms = (target, *_inner_forms(target))
        if any(form in network for form in forms for network in self.allowed if network.version == form.version):
            return True
        return not any(form in network for form in forms for network in self.denied if network.version == form.version)

    def socket_for(self, info: AddressInfo) -> socket.socket:
        """A socket that is about to be connected to `info`; raises `AddressDenied`. aiohttp's `socket_factory`."""
        family, kind, protocol, _name, address = info
        if family not in (socket.AF_INET, socket.AF_INET6) or not self.permits(str(address[0])):
            raise AddressDenied(f"not an address to connect to: {address[0]}")
        return socket.socket(family=family, type=kind, proto=protocol)


def _inner_forms(address: Address) -> tuple[IPv4Address, ...]:
    """IPv4 addresses that an IPv6 address is only another spelling of: a packet to it arrives there."""
    if not isinstance(address, IPv6Address):
        return ()
    inner: list[IPv4Address] = []
    if address.ipv4_mapped is not None:
        inner.append(address.ipv4_mapped)
    if address.sixtofour is not None:
        inner.append(address.sixtofour)
    if address in _TRANSLATED or address in _COMPATIBLE:
        inner.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    return tuple(inner)
