from __future__ import annotations

import pytest

from annals.schemas.topics import TOPICS, decisions_topic


def test_topics_have_their_partitions() -> None:
    counts = {name: spec.partitions for name, spec in TOPICS.items()}
    assert counts == {
        "rooms": 8,
        "users": 8,
        "directory": 1,
        "to_device": 8,
        "receipts": 8,
        "ephemeral": 1,
        "servers": 1,
        "quarantine": 1,
        "operations": 1,
        "schemas": 1,
        "subject_keys": 1,
    }


def test_what_is_compacted_and_what_ages() -> None:
    assert {name for name, spec in TOPICS.items() if spec.compacted} == {
        "receipts",
        "schemas",
        "subject_keys",
        "to_device",
    }
    assert {name for name, spec in TOPICS.items() if spec.retention_ms is not None} == {"ephemeral", "quarantine"}


def test_every_topic_names_its_keys_owner_and_readers() -> None:
    for spec in [*TOPICS.values(), decisions_topic("g1")]:
        assert all((spec.partition_key, spec.owner, spec.readers)), spec.name


def test_decisions_have_as_many_partitions_as_rooms() -> None:
    spec = decisions_topic("g2")
    assert (spec.name, spec.partitions) == ("decisions.g2", TOPICS["rooms"].partitions)


@pytest.mark.parametrize("name", ["", "g0", "g", "x1", "g1;"])
def test_what_is_no_generation_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        decisions_topic(name)
