"""Looking names up: addresses as the operating system says (so /etc/hosts counts), SRV records from DNS."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import dns.asyncresolver
import dns.exception
import dns.resolver
from aiohttp.abc import AbstractResolver, ResolveResult

SRV_TIMEOUT_S = 5.0
# Names that nobody answers for hold a thread for many seconds each; they must not queue the living behind them.
_THREADS = 32
_SRV_RECORDS_MAX = 16


class NameLookupFailed(OSError):
    """The name servers gave no answer (that a record does not exist is an answer)."""


@dataclass(frozen=True, slots=True)
class SrvRecord:
    """One server of a service, RFC 2782."""

    priority: int
    weight: int
    port: int
    host: str


class Names(Protocol):
    """What discovery and connections ask about names."""

    async def addresses(self, host: str) -> list[str]:
        """Addresses of a host, preferred first; raises OSError where there is none."""
        ...

    async def services(self, name: str) -> list[SrvRecord]:
        """SRV records of `_service._tcp.host`, in no order; empty where there are none. Raises NameLookupFailed."""
        ...


class SystemNames:
    """Names as this machine looks them up."""

    def __init__(self, resolver: dns.asyncresolver.Resolver | None = None) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="names")
        self._resolver = resolver

    async def addresses(self, host: str) -> list[str]:
        """See Names."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _addresses, host)
        return list(dict.fromkeys(found))

    async def services(self, name: str) -> list[SrvRecord]:
        """See Names."""
        try:
            if self._resolver is None:
                self._resolver = _resolver()
            answer = await self._resolver.resolve(name, "SRV", lifetime=SRV_TIMEOUT_S)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise NameLookupFailed(f"{name}: {error}") from error
        records = list(answer)[:_SRV_RECORDS_MAX]
        return [SrvRecord(r.priority, r.weight, r.port, r.target.to_text(omit_final_dot=True)) for r in records]

    def close(self) -> None:
        """Start no further look-up."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class AiohttpNames(AbstractResolver):
    """The same for aiohttp's connections."""

    def __init__(self, names: Names) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses in aiohttp's form."""
        found = await self._names.addresses(host)
        if not found:
            raise NameLookupFailed(f"{host} has no address")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        """Nothing of its own to close."""


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError as error:  # a label that is empty or longer than 63 characters
        raise NameLookupFailed(f"{host}: {error}") from error
    return [str(info[4][0]) for info in found]


def _resolver() -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver()
    resolver.cache = dns.resolver.LRUCache(10_000)
    return resolver
