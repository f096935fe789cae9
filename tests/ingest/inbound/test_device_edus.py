"""Messages for devices in a transaction: all that fit into it, and no more than that for who writes to every device."""

from __future__ import annotations

from typing import Any

from annals.ingest.inbound.devices import MESSAGES_MAX, device_claims, device_facts
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.to_device import ToDeviceSent
from tests.support.rooms import envelope

ALICE = "@alice:us.example"


def facts_of(messages: list[dict[str, Any]], devices: list[str]) -> list[Fact]:
    """What becomes of EDUs of one server with these messages, where alice has these devices."""
    edus = [
        {
            "edu_type": "m.direct_to_device",
            "content": {"sender": "@bob:them.example", "type": "m.x", "message_id": f"m{n}", "messages": {ALICE: by}},
        }
        for n, by in enumerate(messages)
    ]
    claims = device_claims(edus, "them.example", "us.example")
    assert claims.receivers == {ALICE}
    return device_facts(claims, {ALICE: devices}, frozenset(), envelope())


def test_the_keys_of_a_large_room_are_kept_all_of_them() -> None:
    devices = [f"D{n}" for n in range(40)]
    facts = facts_of([{device: {"key": n} for device in devices} for n in range(100)], devices)
    kept = {(fact.device_id, fact.message_id) for fact in facts if isinstance(fact, ToDeviceSent)}
    assert len(kept) == 40 * 100


def test_a_message_for_every_device_does_not_grow_without_bounds() -> None:
    devices = [f"D{n}" for n in range(MESSAGES_MAX // 10)]
    facts = facts_of([{"*": {"n": n}} for n in range(50)], devices)
    kept = [fact.message_id for fact in facts if isinstance(fact, ToDeviceSent)]
    assert len(kept) == MESSAGES_MAX
    assert set(kept) == {f"them.example/m{n}" for n in range(10)}, "each goes to all of them or to none"
