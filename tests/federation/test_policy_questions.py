"""One question to a policy server, and what is remembered of one that does not answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from annals.federation.errors import BadAnswer, FederationError, Refused, Unreachable
from annals.federation.policy import PolicyServers
from annals.matrix.events import Event
from annals.matrix.policy_servers import KEY_ID, PolicyServer
from annals.matrix.signing import SigningKey
from tests.support.policed_rooms import OTHER_KEY, POLICY_KEY, recommended
from tests.support.room_weaver import ALICE, plain_room

NAME = "policy.example"
SERVER = PolicyServer(NAME, POLICY_KEY.verify_key.base64)


class Client:
    """The way to the server: its answer, or what asking it ends in."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    async def post(self, server: str, path: str, content: dict[str, Any], **_: Any) -> Any:
        self.asked.append((server, path, content))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def event() -> Event:
    return plain_room("12").add(("m.room.message", ALICE, None, {"body": "x", "msgtype": "m.text"}))


def signatures(of: Event, key: SigningKey = POLICY_KEY, name: str = NAME) -> dict[str, Any]:
    signed: dict[str, Any] = recommended(of, name, key).pdu["signatures"]
    return {name: signed[name]}


def servers(client: Client, clock: list[int] | None = None) -> PolicyServers:
    at_ms = clock or [0]
    return PolicyServers(client, lambda: at_ms[0], lambda: 0.5)  # type: ignore[arg-type]


def test_it_is_sent_the_event_as_it_is() -> None:
    message = event()
    client = Client(signatures(message))
    signature = asyncio.run(servers(client).sign(message, SERVER))
    assert signature == client.answer[NAME][KEY_ID]
    assert client.asked == [(NAME, "/_matrix/policy/v1/sign", message.pdu)]


def test_what_is_no_valid_signature_is_a_bad_answer() -> None:
    message = event()
    wrong: list[Any] = [
        {},
        [],
        None,
        {NAME: {}},
        {NAME: {KEY_ID: 1}},
        signatures(message, OTHER_KEY),
        signatures(message, name="other.example"),
        {NAME: {"ed25519:other": signatures(message)[NAME][KEY_ID]}},
    ]
    for answer in wrong:
        with pytest.raises(BadAnswer):
            asyncio.run(servers(Client(answer)).sign(message, SERVER))


@pytest.mark.parametrize("error", [Unreachable(NAME, "dead"), Refused(NAME, 502, "", ""), Refused(NAME, 429, "", "")])
def test_who_waits_does_not_wait_for_one_that_has_just_failed(error: FederationError) -> None:
    message, clock = event(), [0]
    client = Client(error)
    asker = servers(client, clock)

    def ask() -> None:
        with pytest.raises(FederationError):
            asyncio.run(asker.sign_soon(message, SERVER))

    ask()
    ask()
    assert len(client.asked) == 1
    clock[0] += 5_000
    ask()
    assert len(client.asked) == 2
    clock[0] += 9_999
    ask()
    assert len(client.asked) == 2
    clock[0] += 1
    client.answer = signatures(message)
    asyncio.run(asker.sign_soon(message, SERVER))
    asyncio.run(asker.sign_soon(message, SERVER))
    assert len(client.asked) == 4, "once it answers, nothing is remembered against it"


def test_one_that_refuses_is_asked_again() -> None:
    message = event()
    client = Client(Refused(NAME, 400, "M_FORBIDDEN", "spam"))
    asker = servers(client)
    for _ in range(2):
        with pytest.raises(Refused):
            asyncio.run(asker.sign_soon(message, SERVER))
    assert len(client.asked) == 2
