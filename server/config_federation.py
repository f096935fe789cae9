"""Settings of talking to other servers."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from annals.federation.addresses import DENIED_BY_DEFAULT, AddressFilter
from annals.federation.settings import FederationSettings
from annals.matrix.identifiers import is_server_name


def _range(text: str) -> str:
    ip_network(text)
    return text


def _server(name: str) -> str:
    if not is_server_name(name):
        raise ValueError("not a server name")
    return name


Range = Annotated[str, AfterValidator(_range)]


class FederationSection(BaseModel):
    """Whom this server talks to, and what it trusts. Ranges as in 10.0.0.0/8; what is allowed wins over denied."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Certificate authorities for other servers' certificates; none: those of the operating system.
    ca_files: tuple[Path, ...] = ()
    denied_ranges: tuple[Range, ...] = DENIED_BY_DEFAULT
    allowed_ranges: tuple[Range, ...] = ()
    # Servers whose word on the keys of others is taken where those cannot be asked.
    notaries: tuple[Annotated[str, AfterValidator(_server)], ...] = ()
    request_timeout_s: float = Field(default=60.0, gt=0)

    def settings(self) -> FederationSettings:
        """As the client wants them."""
        return FederationSettings(
            ca_files=self.ca_files,
            addresses=AddressFilter.of(self.denied_ranges, self.allowed_ranges),
            request_timeout_s=self.request_timeout_s,
        )
