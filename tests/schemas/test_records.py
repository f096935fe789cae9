"""Where facts belong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from annals.schemas.codec import decode, encode
from annals.schemas.committed import committed
from annals.schemas.errors import Unencodable
from annals.schemas.facts.decisions import DecisionPart, Mark, Verdict
from annals.schemas.facts.directory import AliasClaimed, RoomPublished
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.receipts import ReceiptSet
from annals.schemas.facts.rooms import RoomForgotten
from annals.schemas.facts.subject_keys import SubjectKeyMade
from annals.schemas.facts.users import DeviceLoggedOut
from annals.schemas.golden import EXAMPLES, read_examples
from annals.schemas.records import erased_subject_key, record_of, record_of_mark, records_of_decision
from annals.schemas.topics import TOPICS

ENVELOPE = Envelope(1, "api-1", "0.1.0")
VERDICT = Verdict("!r", 1 << 40, 7, 3, 1, True, "$e", "accepted")


@pytest.mark.parametrize(
    ("fact", "topic", "partition_key", "record_key"),
    [
        (RoomForgotten(ENVELOPE, "!r", "@a:b"), "rooms", "!r", b"!r"),
        (DeviceLoggedOut(ENVELOPE, "@a:b", "D"), "users", "@a:b", b"@a:b"),
        (AliasClaimed(ENVELOPE, "#a:b", "!r", "@a:b"), "directory", "alias:#a:b", b"alias:#a:b"),
        (RoomPublished(ENVELOPE, "!r", "@a:b", "public"), "directory", "room:!r", b"room:!r"),
        (SubjectKeyMade(ENVELOPE, "@a:b", "k", b"", b""), "subject_keys", "@a:b", b'["@a:b","k"]'),
        (ReceiptSet(ENVELOPE, "!r", "@a:b", "m.read", "$e", None, 1), "receipts", "!r", b'["!r","@a:b","m.read",null]'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_place_of_a_fact(fact: object, topic: str, partition_key: str, record_key: bytes) -> None:
    addressed = record_of(fact)
    assert (addressed.topic, addressed.partition_key, addressed.record_key) == (topic, partition_key, record_key)
    assert addressed.partition is None
    assert addressed.value is not None
    assert decode(addressed.value) == fact


def test_every_fact_has_a_place_on_its_topic() -> None:
    for file in committed():
        (example, *_) = read_examples(EXAMPLES / file.topic / f"{file.name}.v{file.version}", file.schema)
        if file.topic != "decisions":
            addressed = record_of(decode(example.record))
            assert addressed.topic == file.topic
            assert addressed.partition_key or TOPICS[file.topic].partitions == 1


def test_receipts_of_two_threads_are_kept_apart() -> None:
    unthreaded = ReceiptSet(ENVELOPE, "!r", "@a:b", "m.read", "$e", None, 1)
    keys = {record_of(replace(unthreaded, thread_id=thread)).record_key for thread in (None, "", "main", "null")}
    assert len(keys) == 4


def test_a_decision_stands_beside_its_room() -> None:
    (addressed,) = records_of_decision(VERDICT, "g2")
    assert (addressed.topic, addressed.partition_key) == ("decisions.g2", "!r")
    assert addressed.value == encode(VERDICT)


def test_a_large_decision_is_in_parts_of_its_epoch() -> None:
    addressed = records_of_decision(replace(VERDICT, missing=("$" + "e" * 43,) * 3000), "g1")
    parts = [decode(record.value) for record in addressed if record.value is not None]
    assert len(parts) == 3
    assert all(isinstance(part, DecisionPart) and part.epoch == 3 for part in parts)
    assert {record.partition_key for record in addressed} == {"!r"}


def test_a_mark_names_its_partition() -> None:
    addressed = record_of_mark(Mark(3, 1, "w"), "g1", 5)
    assert (addressed.topic, addressed.partition) == ("decisions.g1", 5)


def test_a_decision_is_no_fact_of_a_topic() -> None:
    with pytest.raises(Unencodable):
        record_of(VERDICT)


def test_erasing_a_key_deletes_the_record_that_made_it() -> None:
    made = record_of(SubjectKeyMade(ENVELOPE, "@a:b", "k", b"", b""))
    erased = erased_subject_key("@a:b", "k")
    assert erased.value is None
    assert (erased.topic, erased.partition_key, erased.record_key) == (made.topic, made.partition_key, made.record_key)
