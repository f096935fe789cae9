"""What `ingest/fetchers` needs, put together for a process: the follower of `wanted`, and the past of rooms."""

from __future__ import annotations

import time
from random import SystemRandom

from annals.database.leases import OpsLease
from annals.database.text import storable
from annals.ingest.fetchers.answers import Answers
from annals.ingest.fetchers.filling import Filler
from annals.ingest.fetchers.follower import WantedFollower
from annals.ingest.fetchers.history import History
from annals.ingest.fetchers.moments import Moments
from annals.ingest.fetchers.origins import Origins
from annals.ingest.fetchers.questions import Questions
from annals.ingest.fetchers.servers import ServersAsked
from annals.projectors.notices import GAPS, Notice
from annals.server.clock import now_ms
from annals.server.house import House


def wanted_follower(house: House, owner: str) -> WantedFollower:
    """Who fills the rooms' gaps; it hears the house's notices. `owner` names this process in leases."""
    questions, answers = _asking(house)
    filler = Filler(house.signer.server_name, questions, answers, house.database, Origins(house.log.read))

    def lease(room_id: str) -> OpsLease:
        return OpsLease(house.database, f"gap/{storable(room_id)}", owner, now_ms)

    follower = WantedFollower(house.database, filler, lease)
    hears_of(GAPS, follower, house)
    return follower


def hears_of(errand: str, follower: WantedFollower, house: House) -> None:
    """Tell a follower of rooms with an errand of this kind (annals.projectors.notices), from now on."""

    def hear(notice: Notice) -> None:
        if notice.calls_for(errand):
            follower.moved(notice.rooms, notice.everything)

    house.reached.subscribe(hear)


def room_history(house: House) -> History:
    """Who fetches the past of rooms while a client waits for a page of it."""
    questions, answers = _asking(house)
    us = house.signer.server_name
    return History(us, questions, answers, house.database, house.reached, time.monotonic)


def room_moments(house: House, history: History) -> Moments:
    """Who looks elsewhere for events near a moment."""
    questions, _ = _asking(house)
    return Moments(house.signer.server_name, questions, history, house.database)


def _asking(house: House) -> tuple[Questions, Answers]:
    peers = house.peers
    questions = Questions(peers.client, ServersAsked(now_ms, SystemRandom().random), peers.threads)
    return questions, Answers(peers.pdus, house.appender, peers.threads)
