"""What an operator may set about reaching other servers. Times in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from annals.federation.addresses import AddressFilter


@dataclass(frozen=True, slots=True)
class FederationSettings:
    """Settings of the client."""

    ca_files: tuple[Path, ...] = ()
    """Certificate authorities to trust; empty: those of the operating system."""
    addresses: AddressFilter = field(default_factory=AddressFilter.of)
    connect_timeout_s: float = 10.0
    request_timeout_s: float = 60.0
    """For a whole request, unless its caller says otherwise."""
    well_known_timeout_s: float = 15.0
    answer_bytes_max: int = 1 << 20
    """For an answer, unless its caller says otherwise."""
    connections_max: int = 2_560
    connections_per_server_max: int = 8
    idle_connection_s: float = 60.0
    user_agent: str = "Annals"
    well_known_port: int = 443
    """Other than 443 in tests only: a port below 1024 is not theirs."""


KEYS_BYTES_MAX = 64 << 10
JOIN_BYTES_MAX = 192 << 20
