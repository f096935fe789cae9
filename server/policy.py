"""What `ingest/policy` needs, put together for the process `remote`."""

from __future__ import annotations

from annals.database.leases import OpsLease
from annals.database.text import storable
from annals.ingest.fetchers.follower import WAITS_S, WantedFollower
from annals.ingest.policy.asker import PolicyAsker
from annals.ingest.policy.waiting import rooms_that_wait
from annals.projectors.notices import POLICY
from annals.server.clock import now_ms
from annals.server.fetching import hears_of
from annals.server.house import House

#: In the midst of traffic there is no hurry: events of most other servers bear the signature already.
_LOOK_EVERY_S = 0.5


def policy_follower(house: House, owner: str, waits_s: tuple[float, ...] = WAITS_S) -> WantedFollower:
    """Who asks about events that wait for a policy server. `owner` names this process in leases; `waits_s` are those
    before a server that cannot be asked is tried again, after which it is for the last time."""
    asker = PolicyAsker(house.signer.server_name, house.peers.policy, house.appender, house.database)

    def lease(room_id: str) -> OpsLease:
        return OpsLease(house.database, f"policy/{storable(room_id)}", owner, now_ms)

    follower = WantedFollower(
        house.database, asker, lease, waits_s, what="policy", rooms_of=rooms_that_wait, look_every_s=_LOOK_EVERY_S
    )
    hears_of(POLICY, follower, house)
    return follower
