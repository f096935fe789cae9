"""Row 17: a policy server's signature is mistaken for another, or another for it."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.events import Event, event_of
from annals.matrix.policy_servers import KEY_ID, with_signature
from annals.matrix.signing import SigningKey, VerifyKey, sign_event, verify_event
from tests.support.policed_rooms import POLICY, POLICY_KEY, content_of, policed_room, recommended, signed
from tests.support.room_weaver import ALICE, CAROL, Weaver
from tests.support.rooms import KEY, Driver, received

OWN_KEY = SigningKey("ed25519:own", b"\6" * 32)


def judged(weaver: Weaver, event: Event) -> str:
    driver = Driver(weaver.room_id)
    driver.feed(*(received(recommended(other)) for other in weaver.events[:-1]), received(event))
    return driver.verdict(event.event_id)


def its_own(weaver: Weaver) -> Event:
    """An event of a user of the policy server, signed by that server as the event's origin."""
    event = weaver.add(("m.room.message", CAROL, None, {"body": "x"}))
    return event_of(sign_event(event.pdu, event.rules, "peer", OWN_KEY), event.rules, event.event_id)


def test_that_it_is_the_origin_is_not_its_word_as_the_policy_server() -> None:
    weaver = policed_room()
    event = its_own(weaver)
    assert judged(weaver, event) == "pending_policy"
    assert judged(weaver, recommended(event)) == "accepted"


@pytest.mark.parametrize(
    "forge",
    [
        # the origin's key under the policy server's key id
        lambda e: recommended(e, key=SigningKey(KEY_ID, OWN_KEY.seed)),
        # the right key under another id, or in another server's name
        lambda e: recommended(e, key=SigningKey("ed25519:a_1", POLICY_KEY.seed)),
        lambda e: recommended(e, server="test"),
        # the right signature of another event
        lambda e: event_of(
            with_signature(e.pdu, "peer", recommended(changed(e)).pdu["signatures"]["peer"][KEY_ID]),
            e.rules,
            e.event_id,
        ),
    ],
)
def test_what_looks_like_it_is_not(forge: Any) -> None:
    weaver = policed_room()
    assert judged(weaver, forge(its_own(weaver))) == "pending_policy"


def changed(event: Event) -> Event:
    return event_of({**event.pdu, "depth": event.depth + 1}, event.rules, event.event_id)


def test_the_origins_signature_stays_beside_it() -> None:
    event = its_own(policed_room())
    both = recommended(event)
    for key in (OWN_KEY, POLICY_KEY):
        verify_event(both.pdu, both.rules, "peer", VerifyKey(key.key_id, key.verify_key.public))
    assert set(both.pdu["signatures"]["peer"]) == {KEY.key_id, OWN_KEY.key_id, KEY_ID}


def test_a_key_that_the_room_has_replaced_recommends_nothing() -> None:
    weaver = policed_room()
    driver = Driver(weaver.room_id)
    driver.feed(*(received(recommended(event)) for event in weaver.events))
    waits = weaver.add(("m.room.message", ALICE, None, {}), [weaver.events[-1].event_id])
    other = weaver.add((POLICY, ALICE, "", content_of(key=SigningKey(KEY_ID, b"\7" * 32))), [waits.prev_events[0]])
    late = weaver.add(("m.room.message", ALICE, None, {}), [other.event_id])
    driver.feed(received(waits), received(other), received(recommended(late)))
    assert driver.verdict(late.event_id) == "pending_policy"
    driver.feed(signed(waits), signed(late))
    assert {driver.verdict(event.event_id) for event in (waits, late)} == {"soft_failed"}
