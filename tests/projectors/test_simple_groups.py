"""Users, directory, receipts: tables are a function of the log, however it is cut, repeated or interrupted."""

from __future__ import annotations

import random

import pytest

from annals.eventlog.api import Append
from annals.eventlog.embedded import EmbeddedLog
from annals.projectors.sealables import packed, unpacked
from annals.schemas.facts import directory, users
from annals.schemas.facts.envelope import Sealed
from annals.schemas.facts.subject_keys import SubjectKeyMade
from annals.schemas.records import erased_subject_key
from tests.support.projectors import append, connector, dump, empty, envelope, running, simple_facts
from tests.support.soak import only_in_soak

SEEDS = (1, only_in_soak(2))


def _all_at_once(log: EmbeddedLog, url: str) -> dict[str, list[tuple[object, ...]]]:
    empty(url)
    with running(log, connector(url)) as loop:
        loop.catch_up()
    return dump(url)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_way_of_batching_gives_the_same_tables(log: EmbeddedLog, tables_url: str, seed: int) -> None:
    append(log, simple_facts(random.Random(seed), 60))
    expected = _all_at_once(log, tables_url)
    assert expected["devices"] or expected["aliases"], "the log must make rows"
    for size in (1, 2, 7, 31):
        empty(tables_url)
        with running(log, connector(tables_url), records_max=size) as loop:
            loop.catch_up()
        assert dump(tables_url) == expected, f"batches of {size}, seed {seed}"


def test_every_prefix_is_what_a_rebuild_makes_of_it(log: EmbeddedLog, tables_url: str) -> None:
    facts = simple_facts(random.Random(3), 24)
    with running(log, connector(tables_url)) as loop:
        lived = []
        for fact in facts:
            append(log, [fact])
            loop.catch_up()
            lived.append(dump(tables_url))
    rebuilt = _all_at_once(log, tables_url)
    assert rebuilt == lived[-1]
    assert lived[10] != lived[-1]


def test_redelivery_of_the_last_records_changes_nothing(log: EmbeddedLog, tables_url: str) -> None:
    append(log, simple_facts(random.Random(4), 40))
    expected = _all_at_once(log, tables_url)
    for _ in range(3):
        with running(log, connector(tables_url), owner="again") as loop:
            loop.catch_up()
    assert dump(tables_url) == expected


def test_the_first_claim_wins_and_its_source_says_so(log: EmbeddedLog, tables_url: str) -> None:
    claims = [directory.AliasClaimed(envelope(), "#a:test", room, "@u:test") for room in ("!one:test", "!two:test")]
    first, _ = append(log, claims)
    append(log, [directory.AliasReleased(envelope(), "#a:test", "!two:test", "@u:test")])
    with running(log, connector(tables_url)) as loop:
        loop.catch_up()
        (row,) = dump(tables_url)["aliases"]
        assert row[:2] == ("#a:test", "!one:test")
        assert first in row
        append(log, [directory.AliasReleased(envelope(), "#a:test", "!one:test", "@u:test"), claims[1]])
        loop.catch_up()
    (row,) = dump(tables_url)["aliases"]
    assert row[:2] == ("#a:test", "!two:test")


def test_a_new_token_of_a_device_ends_the_old_one(log: EmbeddedLog, tables_url: str) -> None:
    user = "@ann:test"
    devices = [users.DeviceGiven("A", bytes([n]) * 32, b"name" if n == 1 else None) for n in (1, 2)]
    append(log, [users.AccountRegistered(envelope(), user, None, False, devices[0])])
    append(log, [users.DeviceLoggedIn(envelope(), user, devices[1])])
    with running(log, connector(tables_url)) as loop:
        loop.catch_up()
    (token,) = dump(tables_url)["access_tokens"]
    (device,) = dump(tables_url)["devices"]
    assert token[0] == devices[1].token_hash
    assert packed(b"name") in device


def test_an_erased_key_is_gone_and_its_gap_is_passed(log: EmbeddedLog, tables_url: str) -> None:
    made = SubjectKeyMade(envelope(), "@ann:test", "k1", b"nonce", b"wrapped")
    later = SubjectKeyMade(envelope(), "@ann:test", "k2", b"nonce", b"wrapped")
    append(log, [made, later])
    with running(log, connector(tables_url)) as loop:
        loop.catch_up()
        assert [row[1] for row in dump(tables_url)["subject_keys"]] == ["k1"], "the first key counts"
        for key_id in ("k2", "k1"):
            erased = erased_subject_key("@ann:test", key_id)
            log.append([Append(erased.topic, 0, erased.record_key, None)]).result()
        loop.catch_up()
        assert not dump(tables_url)["subject_keys"]
    assert log.compact("subject_keys", now_ms=1 << 50) == 4
    empty(tables_url)
    with running(log, connector(tables_url), owner="rebuild") as loop:
        loop.catch_up()
        assert loop.positions["subject_keys", "subject_keys", 0] == log.end("subject_keys", 0) == 4


def test_sealed_fields_stay_sealed() -> None:
    sealed = Sealed("key", b"nonce", b"\x00data")
    assert unpacked(packed(sealed)) == sealed
    assert unpacked(packed(b"")) == b""
    with pytest.raises(ValueError):
        unpacked(b"\x07")
