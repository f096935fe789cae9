"""Settings of talking to other servers."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from annals.matrix.identifiers import is_server_name

if TYPE_CHECKING:
    from annals.federation.settings import FederationSettings


def _range(text: str) -> str:
    ip_network(text)
    return text


def _server(name: str) -> str:
    if not is_server_name(name):
        raise ValueError("not a server name")
    return name


Range = Annotated[str, AfterValidator(_range)]


class FederationSection(BaseModel):
    """Whom this server talks to, and what it trusts. Ranges as in 10.0.0.0/8; what is allowed wins over denied.

    `denied_ranges` None: the addresses that no public server has (annals.federation.addresses).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Certificate authorities for other servers' certificates; none: those of the operating system.
    ca_files: tuple[Path, ...] = ()
    denied_ranges: tuple[Range, ...] | None = None
    allowed_ranges: tuple[Range, ...] = ()
    # Servers whose word on the keys of others is taken where those cannot be asked.
    notaries: tuple[Annotated[str, AfterValidator(_server)], ...] = ()
    request_timeout_s: float = Field(default=60.0, gt=0)

    def settings(self) -> FederationSettings:
        """As the client wants them."""
        # A replay reads settings too, and takes along nothing that could reach another server.
        from annals.federation.addresses import DENIED_BY_DEFAULT, AddressFilter
        from annals.federation.settings import FederationSettings

        denied = DENIED_BY_DEFAULT if self.denied_ranges is None else self.denied_ranges
        return FederationSettings(
            ca_files=self.ca_files,
            addresses=AddressFilter.of(denied, self.allowed_ranges),
            request_timeout_s=self.request_timeout_s,
        )
