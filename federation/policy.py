"""Asking policy servers for their signatures (server-server API, "Policy Servers")."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from annals.federation.backoff import Backoff, BackoffRule, after_failure
from annals.federation.client import FederationClient, path_of
from annals.federation.errors import BadAnswer, FederationError, Refused, Unreachable
from annals.matrix.events import Event
from annals.matrix.policy_servers import PolicyServer, is_valid, signature_in

#: What a client waits for one event at most.
TIMEOUT_S = 10.0
_ANSWER_BYTES_MAX = 64 << 10
_PATH = path_of("policy", "v1", "sign")
#: Nobody shall wait the whole time again for one that has just been found dead.
RULE = BackoffRule(first_ms=5_000, factor=2, longest_ms=60_000)
_REMEMBERED_MAX = 1_000


class PolicyServers:
    """Asks them; one a process. Remembers which do not answer."""

    def __init__(self, client: FederationClient, now_ms: Callable[[], int], chance: Callable[[], float]) -> None:
        self._client, self._now_ms, self._chance = client, now_ms, chance
        self._failing: OrderedDict[str, Backoff] = OrderedDict()

    async def sign(self, event: Event, server: PolicyServer) -> str:
        """The valid signature of the server over the event. Raises FederationError; Refused is its own answer."""
        name = server.server_name
        answer = await self._client.post(name, _PATH, event.pdu, timeout_s=TIMEOUT_S, bytes_max=_ANSWER_BYTES_MAX)
        signature = signature_in(answer, name)
        if signature is None or not is_valid(signature, event.pdu, event.rules, server):
            raise BadAnswer(name, "no valid signature by the key that the room has of it")
        return signature

    async def sign_soon(self, event: Event, server: PolicyServer) -> str:
        """The same for somebody who waits: one that failed a moment ago is not asked again."""
        name = server.server_name
        failing = self._failing.get(name)
        if failing is not None and not failing.is_over(self._now_ms()):
            raise Unreachable(name, "it did not answer a moment ago")
        try:
            signature = await self.sign(event, server)
        except FederationError as error:
            if is_down(error):
                self._failing[name] = after_failure(failing, self._now_ms(), self._chance(), RULE)
                if len(self._failing) > _REMEMBERED_MAX:
                    self._failing.popitem(last=False)
            else:
                self._failing.pop(name, None)
            raise
        self._failing.pop(name, None)
        return signature


def is_down(error: FederationError) -> bool:
    """Whether the server has said nothing of the event, and may yet."""
    return isinstance(error, Unreachable) or (isinstance(error, Refused) and not error.is_final)
