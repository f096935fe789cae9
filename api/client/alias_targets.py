"""Which room an alias names, of this server or another."""

from __future__ import annotations

from annals.api.errors import ApiError, not_found
from annals.api.services import Services
from annals.matrix.identifiers import domain_of
from annals.queries.aliases import AliasTarget
from annals.queries.remote import NotReached


async def target_of(alias: str, services: Services) -> AliasTarget:
    """The room of an alias, and servers that are in it. 404: there is none; 502: its server does not say."""
    if domain_of(alias) == services.settings.server_name:
        found = await services.alias_reads.resolve(alias)
    else:
        try:
            found = await services.remote_reads.resolve(alias)
        except NotReached as error:
            raise ApiError(502, "M_UNKNOWN", f"The server of {alias} does not answer: {error}") from error
    if found is None:
        raise not_found(f"Room alias {alias} not found.")
    return found
