"""The servers that the stories are told on answer, to clients and to each other's key requests."""

from __future__ import annotations

import ssl
import urllib.request

import pytest

from tests.support.federation.homeserver import Homeserver
from tests.support.patience import PATIENCE_S
from tests.support.scripted_peer import Authority


@pytest.mark.parametrize("kind", ["annals", "synapse"])
def test_a_server_answers_behind_its_wire(kind: str, authority: Authority, request: pytest.FixtureRequest) -> None:
    server: Homeserver = request.getfixturevalue(kind)
    assert server.person().user_id.endswith(f":{server.name}")
    context = ssl.create_default_context(cafile=str(authority.cert))
    url = f"https://{server.name}/_matrix/key/v2/server"
    assert server.name.encode() in urllib.request.urlopen(url, context=context, timeout=PATIENCE_S).read()
    server.link.cut()
    with pytest.raises(OSError):
        urllib.request.urlopen(url, context=context, timeout=PATIENCE_S)
    server.link.heal()
    assert server.name.encode() in urllib.request.urlopen(url, context=context, timeout=PATIENCE_S).read()
