"""Servers' keys: tables are a function of the log, and say what a keyring that saw the same answers knows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
import signedjson.sign

from annals.database.pool import Database
from annals.eventlog.embedded import EmbeddedLog
from annals.ingest.key_facts import FactKeyStore, keys_in
from annals.ingest.key_fetching import checked
from annals.ingest.key_store import MemoryKeyStore
from annals.matrix.canonical_json import canonical_bytes, loads
from annals.projectors.servers.read import key_answers_of
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.servers import ServerKeysFetched
from tests.support.projectors import append, connector, dump, empty, envelope, running
from tests.support.scripted_peer import public_base64, reference_key
from tests.support.soak import only_in_soak

SERVERS = ("a.example", "b.example:8448")
KEYS = [reference_key("x", bytes([n]) * 32) for n in range(3)]


def _answer(rng: random.Random, server: str, at_ms: int) -> dict[str, Any]:
    """Keys come, change under their ids, and grow old."""
    by_id = {f"ed25519:{n}": rng.choice(KEYS) for n in rng.sample(range(4), 3)}
    current = dict(list(by_id.items())[: rng.randint(1, 3)])
    value: dict[str, Any] = {
        "server_name": server,
        "valid_until_ts": at_ms + rng.randint(0, 1000),
        "verify_keys": {key_id: {"key": public_base64(key)} for key_id, key in current.items()},
        "old_verify_keys": {
            key_id: {"key": public_base64(key), "expired_ts": at_ms - rng.randint(0, 100)}
            for key_id, key in by_id.items()
            if key_id not in current
        },
    }
    key_id, key = rng.choice(list(current.items()))
    signer = reference_key(key_id.partition(":")[2], bytes(key))
    return dict(signedjson.sign.sign_json(value, server, signer))


def _facts(seed: int, count: int) -> list[ServerKeysFetched]:
    rng, facts = random.Random(seed), []
    for number in range(count):
        server, at_ms = rng.choice(SERVERS), 10_000 + 100 * number
        source = rng.choice([server, server, "notary.example"])
        text = canonical_bytes(_answer(rng, server, at_ms))
        facts.append(ServerKeysFetched(envelope(number), server, source, at_ms, text))
    return facts


class _Writer:
    """Nothing is written here."""

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        return envelope()

    async def submit(self, facts: Sequence[Fact]) -> object:
        raise AssertionError(facts)


def _all_at_once(log: EmbeddedLog, url: str) -> dict[str, list[tuple[Any, ...]]]:
    empty(url)
    with running(log, connector(url)) as loop:
        loop.catch_up()
    return dump(url)


@pytest.mark.parametrize("seed", [1, only_in_soak(2)])
def test_every_way_of_batching_gives_the_same_tables(log: EmbeddedLog, tables_url: str, seed: int) -> None:
    append(log, _facts(seed, 40))
    expected = _all_at_once(log, tables_url)
    assert len(expected["server_keys"]) > 4
    assert len(expected["server_key_answers"]) == 2
    for size in (1, 7):
        empty(tables_url)
        with running(log, connector(tables_url), records_max=size) as loop:
            loop.catch_up()
        assert dump(tables_url) == expected


def test_the_tables_know_what_a_keyring_knows(log: EmbeddedLog, tables_url: str) -> None:
    facts = _facts(5, 40)
    append(log, facts)
    _all_at_once(log, tables_url)
    memory = MemoryKeyStore()
    for fact in facts:
        asyncio.run(memory.save([checked(loads(fact.answer), fact.server_name, fact.fetched_from, fact.fetched_at_ms)]))
    database = Database(tables_url)
    try:
        store = FactKeyStore(_Writer(), keys_in(database))
        assert asyncio.run(store.load(SERVERS)) == asyncio.run(memory.load(SERVERS))
        answers = database.read_now(lambda s: key_answers_of(s, [*SERVERS, "nobody.example"]))
    finally:
        database.close()
    assert set(answers) == set(SERVERS)
    assert all(answers[fact.server_name].fetched_at_ms >= 0 for fact in facts)
    last_direct = {fact.server_name: fact for fact in facts if fact.fetched_from == fact.server_name}
    for server, fact in last_direct.items():
        assert answers[server].fetched_at_ms >= fact.fetched_at_ms


def test_an_answer_that_is_not_the_servers_own_has_no_effect(log: EmbeddedLog, tables_url: str) -> None:
    good = _facts(7, 1)[0]
    forged = ServerKeysFetched(envelope(), "victim.example", "victim.example", 5, good.answer)
    broken = ServerKeysFetched(envelope(), good.server_name, good.server_name, 5, good.answer[:-9])
    append(log, [forged, broken])
    tables = _all_at_once(log, tables_url)
    assert tables["server_keys"] == tables["server_key_answers"] == []
