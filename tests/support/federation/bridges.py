"""A bridge: an application service of our server, and users of its namespace, who have no tokens of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.federation.homeserver import Homeserver
from tests.support.matrix_client import Client

TOKEN = "bridges-token"
_REGISTRATION = f"""
id: bridge
url: null
as_token: {TOKEN}
hs_token: unused
sender_localpart: _bridge
namespaces:
  users: [{{exclusive: true, regex: "@_bridge_.*"}}]
  aliases: []
  rooms: []
"""


def registered(folder: Path) -> Mapping[str, str]:
    """What tells a server of ours of the bridge."""
    (folder / "appservices").mkdir()
    (folder / "appservices" / "bridge.yaml").write_text(_REGISTRATION)
    return {"APPSERVICE_DIR": str(folder / "appservices")}


@dataclass(slots=True)
class BridgedClient(Client):
    """One of the bridge's users: every request names it."""

    def call(
        self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """See Client."""
        named = {"user_id": self.user_id} if self.user_id else {}
        return Client.call(self, method, path, body, {**named, **(query or {})})


def bridged(server: Homeserver, name: str) -> Client:
    """A new user of the bridge's namespace."""
    client = BridgedClient(server.port, token=TOKEN)
    body = {"type": "m.login.application_service", "username": f"_bridge_{name}", "inhibit_login": True}
    client.user_id = client.ok("POST", "/register", body)["user_id"]
    return client
