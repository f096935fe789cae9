"""Keys as facts: what is saved can be read back into the same keys."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from annals.ingest.key_facts import FactKeyStore
from annals.ingest.key_fetching import checked
from annals.ingest.key_store import FetchedKeys
from annals.matrix.canonical_json import canonical_bytes, loads
from annals.matrix.server_keys import KnownKey
from annals.matrix.signing import SigningKey, sign_json
from annals.schemas.codec import decode
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.servers import ServerKeysFetched
from annals.schemas.records import record_of

KEY = SigningKey("ed25519:1", b"\1" * 32)


class Writer:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        return Envelope(7, "test", "1", cause, idempotency_key)

    async def submit(self, facts: Sequence[Fact]) -> object:
        self.facts += facts
        return None


async def _nothing(_: Collection[str]) -> Mapping[str, Mapping[str, KnownKey]]:
    return {}


def _fetched(server: str, by: str) -> FetchedKeys:
    keys = {KEY.key_id: {"key": KEY.verify_key.base64}}
    answer = {"server_name": server, "verify_keys": keys, "valid_until_ts": 9000, "odd": ["é", 1]}
    return checked(sign_json(answer, server, KEY), server, by, 5000)


def test_what_is_saved_is_the_signed_answer_and_gives_the_same_keys() -> None:
    writer = Writer()
    store = FactKeyStore(writer, _nothing)
    fetched = [_fetched("a.example", "a.example"), _fetched("b.example", "notary.example")]
    asyncio.run(store.save(fetched))
    assert len(writer.facts) == 2
    for fact, item in zip(writer.facts, fetched, strict=True):
        record = record_of(fact)
        assert (record.topic, record.partition_key) == ("servers", item.keys.server)
        again = decode(record.value or b"")
        assert isinstance(again, ServerKeysFetched)
        assert canonical_bytes(loads(again.answer)) == again.answer == item.answer
        assert checked(loads(again.answer), again.server_name, again.fetched_from, again.fetched_at_ms) == item
