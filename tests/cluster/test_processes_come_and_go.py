"""One of each process is killed, stopped or added while clients talk: nothing acknowledged is lost or comes twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from tests.support.cluster import Cluster
from tests.support.crashes import People, Talker, Watch, said_by
from tests.support.rebuild_check import decided_twice
from tests.support.waiting import until

APART_S = (0.2, 1.0)
LOOK_S = 0.2


def talk_while(cluster: Cluster, people: People, name: str, happens: Callable[[], None]) -> None:
    """Both talk, in one room and each alone, and sync; all that was acknowledged is there, once, in order."""
    ann, bob = people.ann, people.bob
    other_room = bob.create_room(preset="private_chat", room_version="10")
    with (
        Watch(bob) as watch,
        Talker(ann, people.room_id, f"ann-{name}") as one,
        Talker(bob, people.room_id, f"bob-{name}") as two,
        Talker(bob, other_room, f"alone-{name}") as alone,
    ):
        talkers = (one, two, alone)
        happens()
        goes_on(talkers)
    watch.check()
    assert watch.tokens
    for room_id, in_it in ((people.room_id, (one, two)), (other_room, (alone,))):
        history, stream = bob.history(room_id), cluster.stream(room_id)
        for talker in in_it:
            assert sorted(said_by(talker, history)) == sorted(talker.acknowledged)
            # In the order of the stream, which /sync shows. A page of /messages goes by depth: an api process that has
            # not heard of the last events yet builds beside them.
            acknowledged = [event_id for _, event_id in talker.acknowledged]
            assert [event_id for event_id in stream if event_id in set(acknowledged)] == acknowledged


def until_owned(cluster: Cluster, count: int) -> None:
    """Until so many processes own all partitions together."""

    def are_owned() -> bool:
        time.sleep(LOOK_S)
        owners = cluster.owners()
        return None not in owners and len(owners) == count

    until(are_owned, f"{count} own all partitions")


def goes_on(talkers: Sequence[Talker]) -> None:
    counts = [len(talker.acknowledged) for talker in talkers]
    until(lambda: all(t.goes_on_from(n) for t, n in zip(talkers, counts, strict=True)), "all go on")


def test_one_of_each_is_killed(cluster: Cluster, people: People, rng: random.Random) -> None:
    victims = [rng.choice(nodes) for nodes in cluster.nodes.values()] * 2

    def kill_them() -> None:
        for node in rng.sample(victims, len(victims)):
            time.sleep(rng.uniform(*APART_S))
            node.kill()
            time.sleep(rng.uniform(*APART_S))
            node.start()

    talk_while(cluster, people, "killed", kill_them)
    cluster.start()


def test_projectors_come_and_go_in_order(cluster: Cluster, people: People, rng: random.Random) -> None:
    """A rolling restart: each hands its partitions over, and nothing waits for a session to time out."""
    third = cluster.add("projectors")
    cluster.nodes["projectors"].remove(third)

    def roll() -> None:
        third.start()
        until_owned(cluster, 3)
        for node in cluster.nodes["projectors"]:
            assert node.stop() == 0
            node.start()
            time.sleep(rng.uniform(*APART_S))
        assert third.stop() == 0

    try:
        talk_while(cluster, people, "rolled", roll)
    finally:
        third.kill()
    until_owned(cluster, 2)


def test_a_stalled_projector_cannot_write_when_it_goes_on(cluster: Cluster, people: People) -> None:
    """SIGSTOP until its partitions are another's, then SIGCONT: its first write meets the fence."""
    until_owned(cluster, 2)
    # By those that were killed, and stopped: what comes from one that goes on behind its fence is void.
    assert decided_twice(cluster.config) == []
    stalled, other = cluster.nodes["projectors"]
    before = cluster.claims()

    def stall() -> None:
        stalled.pause()
        try:
            until_owned(cluster, 1)
            taken = {which: claim for which, claim in cluster.claims().items() if claim[0] != before[which][0]}
            assert taken
            assert all(epoch > before[which][1] for which, (_, epoch) in taken.items())
        finally:
            stalled.resume()
        until_owned(cluster, 2)

    talk_while(cluster, people, "stalled", stall)
    assert stalled.runs()
    # It is of use again: alone, it owns everything.
    other.kill()
    try:
        until_owned(cluster, 1)
        people.ann.say(people.room_id, "to the one that was stalled", patient=True)
    finally:
        other.start()
