"""What only other servers know: their aliases, and the profiles of their users."""

from __future__ import annotations

from typing import Any

from annals.federation.client import FederationClient, Query, path_of
from annals.federation.errors import FederationError, Refused
from annals.matrix.identifiers import domain_of, is_room_id, is_server_name
from annals.queries.aliases import SERVERS_MAX, AliasTarget

#: A client waits for it.
TIMEOUT_S = 15.0


class NotReached(Exception):
    """The server that knows did not say, or not in a way that can be read."""


class RemoteReads:
    """Questions to other servers on behalf of our users; nothing is kept of the answers."""

    def __init__(self, client: FederationClient) -> None:
        self._client = client

    async def resolve(self, alias: str) -> AliasTarget | None:
        """The room of an alias of another server; raises NotReached."""
        answer = await self._ask(domain_of(alias), "directory", (("room_alias", alias),))
        if answer is None:
            return None
        room_id, servers = answer.get("room_id"), answer.get("servers")
        if type(room_id) is not str or not is_room_id(room_id):
            raise NotReached("its answer names no room")
        named = servers if type(servers) is list else []
        good = dict.fromkeys(server for server in named if type(server) is str and is_server_name(server))
        # Who knows the alias need not be in the room, but is asked when nobody else is named.
        return AliasTarget(room_id, list(good)[:SERVERS_MAX] or [domain_of(alias)])

    async def profile(self, user_id: str) -> dict[str, Any] | None:
        """All fields of a user's profile; None where there is no such user. Raises NotReached."""
        return await self._ask(domain_of(user_id), "profile", (("user_id", user_id),))

    async def _ask(self, server: str, what: str, query: Query) -> dict[str, Any] | None:
        path = path_of("federation", "v1", "query", what)
        try:
            answer = await self._client.get(server, path, query, timeout_s=TIMEOUT_S)
        except Refused as error:
            if error.status == 404:
                return None
            raise NotReached(error.reason) from error
        except FederationError as error:
            raise NotReached(error.reason) from error
        if type(answer) is not dict:
            raise NotReached("its answer is not an object")
        return answer
