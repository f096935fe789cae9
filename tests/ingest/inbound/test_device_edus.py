"""Messages for devices in a transaction: all that fit into it, and no more than that for who writes to every device."""

from __future__ import annotations

from typing import Any

from prometheus_client import REGISTRY

from annals.ingest.inbound.devices import COPIES_BYTES_MAX, COPIES_MAX, Delivered, device_claims, device_facts
from annals.schemas.facts.to_device import ToDeviceSent
from tests.support.rooms import envelope

ALICE = "@alice:us.example"


def made_of(messages: list[dict[str, Any]], devices: list[str]) -> Delivered:
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
    made = made_of([{device: {"key": n} for device in devices} for n in range(100)], devices)
    kept = {(fact.device_id, fact.message_id) for fact in made.facts if isinstance(fact, ToDeviceSent)}
    assert len(kept) == 40 * 100


def test_a_message_for_every_device_does_not_grow_without_bounds() -> None:
    devices = [f"D{n}" for n in range(COPIES_MAX // 10)]
    made = made_of([{"*": {"n": n}, "D1": {}} for n in range(50)], devices)
    kept = [fact.message_id for fact in made.facts if isinstance(fact, ToDeviceSent) and fact.content != b"{}"]
    assert len(kept) == COPIES_MAX
    assert set(kept) == {f"them.example/m{n}" for n in range(10)}, "each goes to all of them or to none"
    # What names its device is not held up by those, and what is left out is known.
    assert len(made.facts) == COPIES_MAX + 50
    assert [message.message_id for message in made.left_out] == [f"them.example/m{n}" for n in range(10, 50)]


def test_what_is_no_message_is_counted() -> None:
    def refused() -> float:
        labels = {"kind": "m.direct_to_device", "outcome": "refused"}
        return REGISTRY.get_sample_value("annals_federation_received_total", labels) or 0.0

    before = refused()
    made = made_of([{"D1": 7, "D2": {"x": "y" * 70_000}, "x" * 300: {}, "D3": {}}], ["D1", "D2", "D3"])
    assert [fact.device_id for fact in made.facts if isinstance(fact, ToDeviceSent)] == ["D3"]
    assert refused() - before == 3


def test_large_messages_for_every_device_do_not_fill_the_disk() -> None:
    large = "x" * 50_000
    made = made_of([{"*": {"n": large}} for _ in range(100)], [f"D{n}" for n in range(50)])
    contents = [fact.content for fact in made.facts if isinstance(fact, ToDeviceSent)]
    size_bytes = sum(len(content) for content in contents if isinstance(content, bytes))
    assert COPIES_BYTES_MAX // 2 < size_bytes <= COPIES_BYTES_MAX
    assert len(made.facts) + len(made.left_out) * 50 == 100 * 50
