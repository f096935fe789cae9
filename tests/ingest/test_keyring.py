"""The keyring: one request a server, every waiter on his own feet, and what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import structlog

from annals.api.server.own_keys import OwnKeys
from annals.ingest.key_store import FetchedKeys, MemoryKeyStore
from annals.ingest.keyring import FAILURES, REFETCH_AFTER_MS, KeyFetchFailed, KeyMissing, KeyNeed, Keyring, Lack
from annals.matrix.canonical_json import loads
from annals.matrix.server_keys import KnownKey, ServerKeys, read_server_keys
from annals.matrix.signing import SigningKey, VerifyKey

DAY_MS = 24 * 3600 * 1000
NOW_MS = 100 * DAY_MS


def verify_key(key_id: str, fill: int = 1) -> VerifyKey:
    return SigningKey(key_id, bytes([fill]) * 32).verify_key


def fetched(
    server: str, *key_ids: str, until_ms: int = NOW_MS + DAY_MS, old: Mapping[str, int] | None = None, by: str = ""
) -> FetchedKeys:
    keys = ServerKeys(
        server,
        until_ms,
        {key_id: verify_key(key_id) for key_id in key_ids},
        {key_id: (verify_key(key_id), expired_ms) for key_id, expired_ms in (old or {}).items()},
    )
    return FetchedKeys(keys, by or server, NOW_MS, b"{}")


class World:
    """A fetcher of a script, a clock and a keyring."""

    def __init__(self, **keyring: Any) -> None:
        self.now_ms = NOW_MS
        self.answers: dict[str, FetchedKeys] = {}
        self.vouched: dict[str, FetchedKeys] = {}
        self.asked: list[str] = []
        self.asked_notaries: list[tuple[str, dict[str, int]]] = []
        self.contexts: list[dict[str, Any]] = []
        self.gate, self.begun = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.store = MemoryKeyStore()
        self.keyring = self.another(**keyring)

    def another(self, **keyring: Any) -> Keyring:
        own = [SigningKey("ed25519:us", b"\7" * 32)]
        return Keyring("us.example", own, self.store, self, lambda: self.now_ms, lambda: 0.5, **keyring)

    async def direct(self, server: str) -> FetchedKeys:
        self.asked.append(server)
        self.begun.set()
        self.contexts.append(dict(structlog.contextvars.get_contextvars()))
        await self.gate.wait()
        if server not in self.answers:
            raise KeyFetchFailed("no answer")
        return self.answers[server]

    def asks_notaries_for(self, server: str) -> bool:
        return bool(self.vouched)

    async def from_notaries(self, server: str, wanted: Mapping[str, int]) -> list[FetchedKeys]:
        self.asked_notaries.append((server, dict(wanted)))
        return [self.vouched[server]] if server in self.vouched else []


def play(scenario: Callable[[World], Awaitable[None]], **keyring: Any) -> None:
    async def run() -> None:
        world = World(**keyring)
        await scenario(world)
        await world.keyring.close()

    asyncio.run(run())


def need(key_id: str = "ed25519:1", until_ms: int = 0, server: str = "a.example") -> KeyNeed:
    return KeyNeed(server, key_id, until_ms)


async def one(keyring: Keyring, wanted: KeyNeed) -> KnownKey | KeyMissing:
    return (await keyring.keys([wanted]))[wanted]


def test_a_batch_asks_each_server_once_and_all_of_them_at_once() -> None:
    async def scenario(world: World) -> None:
        world.gate.clear()
        servers = [f"s{i}.example" for i in range(5)]
        world.answers = {s: fetched(s, "ed25519:1", "ed25519:2") for s in servers}
        needs = [need(f"ed25519:{k}", server=s) for s in servers for k in (1, 2)]
        asking = asyncio.create_task(world.keyring.keys(needs))
        for _ in range(20):
            await asyncio.sleep(0)
        assert sorted(world.asked) == servers  # none waits for another
        world.gate.set()
        assert all(isinstance(key, KnownKey) for key in (await asking).values())
        await world.keyring.keys(needs)
        assert len(world.asked) == 5

    play(scenario)


def test_who_asks_while_a_request_is_under_way_waits_for_it() -> None:
    async def scenario(world: World) -> None:
        world.gate.clear()
        world.answers["a.example"] = fetched("a.example", "ed25519:1", "ed25519:2")
        asking = [asyncio.create_task(one(world.keyring, need(f"ed25519:{1 + i % 2}"))) for i in range(10)]
        await world.begun.wait()
        asking += [asyncio.create_task(one(world.keyring, need("ed25519:2"))) for _ in range(3)]
        await asyncio.sleep(0)
        world.gate.set()
        assert all(isinstance(key, KnownKey) for key in await asyncio.gather(*asking))
        assert world.asked == ["a.example"]

    play(scenario)


@pytest.mark.parametrize("who", [0, 1, 2])
def test_a_cancelled_waiter_takes_nobody_with_it(who: int) -> None:
    async def scenario(world: World) -> None:
        world.gate.clear()
        world.answers["a.example"] = fetched("a.example", "ed25519:1")
        asking = [asyncio.create_task(one(world.keyring, need())) for _ in range(3)]
        await world.begun.wait()
        asking[who].cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking[who]
        world.gate.set()
        left = [task for task in asking if task is not asking[who]]
        assert all(isinstance(key, KnownKey) for key in await asyncio.gather(*left))
        assert world.asked == ["a.example"]

    play(scenario)


def test_an_answer_counts_though_everybody_who_asked_is_gone() -> None:
    async def scenario(world: World) -> None:
        world.gate.clear()
        world.answers["a.example"] = fetched("a.example", "ed25519:1")
        asking = asyncio.create_task(one(world.keyring, need()))
        await world.begun.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        later = asyncio.create_task(one(world.keyring, need()))
        world.gate.set()
        assert isinstance(await later, KnownKey)
        assert world.asked == ["a.example"]

    play(scenario)


def test_every_waiter_keeps_his_own_log_context_and_the_request_has_none_of_theirs() -> None:
    async def scenario(world: World) -> None:
        world.gate.clear()
        world.answers["a.example"] = fetched("a.example", "ed25519:1")
        after: dict[str, dict[str, Any]] = {}

        async def request(name: str) -> None:
            structlog.contextvars.bind_contextvars(request_id=name)
            await one(world.keyring, need())
            after[name] = dict(structlog.contextvars.get_contextvars())

        structlog.contextvars.bind_contextvars(outer="kept")
        asking = [asyncio.create_task(request(name)) for name in ("first", "second")]
        await world.begun.wait()
        world.gate.set()
        await asyncio.gather(*asking)
        assert after == {name: {"outer": "kept", "request_id": name} for name in ("first", "second")}
        assert world.contexts == [{"key_server": "a.example"}]
        assert structlog.contextvars.get_contextvars() == {"outer": "kept"}

    play(scenario)


def test_failures_are_remembered_and_asked_about_ever_more_rarely() -> None:
    async def scenario(world: World) -> None:
        missing = await one(world.keyring, need())
        assert missing == KeyMissing(Lack.UNREACHABLE, NOW_MS + FAILURES.first_ms)
        world.answers["a.example"] = fetched("a.example", "ed25519:1")
        world.now_ms += FAILURES.first_ms - 1
        assert await one(world.keyring, need()) == missing
        assert world.asked == ["a.example"]
        del world.answers["a.example"]
        world.now_ms += 1
        again = await one(world.keyring, need())
        assert again == KeyMissing(Lack.UNREACHABLE, world.now_ms + 2 * FAILURES.first_ms)
        world.answers["a.example"] = fetched("a.example", "ed25519:1")
        world.now_ms += 2 * FAILURES.first_ms
        assert isinstance(await one(world.keyring, need()), KnownKey)
        assert len(world.asked) == 3

    play(scenario)


def test_a_server_that_talks_to_us_is_asked_at_once() -> None:
    async def scenario(world: World) -> None:
        await one(world.keyring, need())
        world.answers["a.example"] = fetched("a.example", "ed25519:1")
        world.keyring.heard_from("a.example")
        assert isinstance(await one(world.keyring, need()), KnownKey)

    play(scenario)


def test_key_ids_that_a_server_does_not_have_make_no_storm() -> None:
    async def scenario(world: World) -> None:
        world.answers["a.example"] = fetched("a.example", "ed25519:1")
        for i in range(50):
            missing = await one(world.keyring, need(f"ed25519:x{i}"))
            assert missing == KeyMissing(Lack.NOT_PUBLISHED, NOW_MS + REFETCH_AFTER_MS)
        world.keyring.heard_from("a.example")
        assert isinstance(await one(world.keyring, need()), KnownKey)
        assert world.asked == ["a.example"]
        world.now_ms += REFETCH_AFTER_MS
        world.answers["a.example"] = fetched("a.example", "ed25519:x0")
        assert isinstance(await one(world.keyring, need("ed25519:x0")), KnownKey)

    play(scenario)


def test_notaries_are_asked_for_what_the_server_does_not_say() -> None:
    async def scenario(world: World) -> None:
        world.vouched["a.example"] = fetched("a.example", "ed25519:2", by="notary.example")
        assert isinstance(await one(world.keyring, need("ed25519:2", NOW_MS)), KnownKey)
        assert world.asked_notaries == [("a.example", {"ed25519:2": NOW_MS})]
        world.answers["b.example"] = fetched("b.example", "ed25519:1")
        await world.keyring.keys([need(server="b.example"), need("ed25519:9", 7, server="b.example")])
        assert world.asked_notaries[1:] == [("b.example", {"ed25519:9": 7})]
        assert [item.fetched_from for item in world.store.saved] == ["notary.example", "b.example"]

    play(scenario)


def test_a_key_must_be_valid_as_long_as_is_asked_for() -> None:
    async def scenario(world: World) -> None:
        world.answers["a.example"] = fetched("a.example", "ed25519:1", until_ms=NOW_MS + 5)
        assert isinstance(await one(world.keyring, need(until_ms=NOW_MS + 5)), KnownKey)
        world.now_ms += REFETCH_AFTER_MS
        late = await one(world.keyring, need(until_ms=NOW_MS + 6))
        assert late == KeyMissing(Lack.NOT_VALID, world.now_ms + REFETCH_AFTER_MS)
        assert len(world.asked) == 2
        world.now_ms += REFETCH_AFTER_MS
        world.answers["a.example"] = fetched("a.example", "ed25519:1", until_ms=NOW_MS + 6)
        assert isinstance(await one(world.keyring, need(until_ms=NOW_MS + 6)), KnownKey)

    play(scenario)


def test_nobody_is_asked_for_a_key_of_the_far_future() -> None:
    async def scenario(world: World) -> None:
        world.answers["a.example"] = fetched("a.example", "ed25519:1", until_ms=2**62)
        far = NOW_MS + 7 * DAY_MS + 1
        assert await one(world.keyring, need(until_ms=far)) == KeyMissing(Lack.NOT_VALID, NOW_MS + 1)
        assert world.asked == []
        assert isinstance(await one(world.keyring, need(until_ms=far - 1)), KnownKey)

    play(scenario)


def test_an_old_key_vouches_for_what_was_before_it_expired() -> None:
    async def scenario(world: World) -> None:
        world.answers["a.example"] = fetched("a.example", "ed25519:2", old={"ed25519:1": 5000})
        assert isinstance(await one(world.keyring, need(until_ms=5000)), KnownKey)
        assert isinstance(await one(world.keyring, need(until_ms=0)), KnownKey)
        assert await one(world.keyring, need(until_ms=5001)) == KeyMissing(Lack.NOT_VALID, None)

    play(scenario)


def test_a_key_that_everybody_has_vouches_for_nothing() -> None:
    async def scenario(world: World) -> None:
        world.answers["a.example"] = fetched("a.example", "ed25519:1")
        assert await one(world.keyring, need()) == KeyMissing(Lack.COMPROMISED, None)

    play(scenario, compromised=frozenset({verify_key("ed25519:1").public}))


def test_keys_survive_the_process_in_the_store() -> None:
    async def scenario(world: World) -> None:
        world.answers["a.example"] = fetched("a.example", "ed25519:1")
        await one(world.keyring, need())
        assert isinstance(await one(world.another(), need()), KnownKey)
        assert world.asked == ["a.example"]

    play(scenario)


def test_a_store_that_fails_fails_every_waiter_and_the_next_is_served() -> None:
    async def scenario(world: World) -> None:
        world.answers["a.example"] = fetched("a.example", "ed25519:1")
        save = world.store.save

        async def failing(_: Any) -> None:
            raise OSError("the log is away")

        world.store.save = failing  # type: ignore[method-assign, assignment]
        both = await asyncio.gather(*(one(world.keyring, need()) for _ in range(2)), return_exceptions=True)
        assert [type(outcome) for outcome in both] == [OSError, OSError]
        world.store.save = save  # type: ignore[method-assign]
        assert isinstance(await one(world.keyring, need()), KnownKey)

    play(scenario)


def test_our_own_keys_are_asked_of_nobody() -> None:
    async def scenario(world: World) -> None:
        ours = await one(world.keyring, need("ed25519:us", NOW_MS, "us.example"))
        assert isinstance(ours, KnownKey)
        assert await one(world.keyring, need("ed25519:x", 0, "us.example")) == KeyMissing(Lack.NOT_PUBLISHED, None)
        assert world.asked == []

    play(scenario)


def test_a_former_key_of_ours_vouches_for_what_it_signed_and_for_no_request() -> None:
    async def scenario(world: World) -> None:
        old, new = SigningKey("ed25519:old", b"\1" * 32), SigningKey("ed25519:new", b"\2" * 32)
        known: Any = world.keyring
        keyring = Keyring(
            "us.example",
            [new],
            world.store,
            known._fetcher,
            lambda: NOW_MS,
            lambda: 0.5,
            retired=[(old.verify_key, 5000)],
        )
        for until_ms in (0, 5000):
            found = await one(keyring, need("ed25519:old", until_ms, "us.example"))
            assert isinstance(found, KnownKey)
            assert not found.is_current, "a request needs a current one"
        assert await one(keyring, need("ed25519:old", 5001, "us.example")) == KeyMissing(Lack.NOT_VALID, None)
        assert isinstance(await one(keyring, need("ed25519:new", NOW_MS, "us.example")), KnownKey)
        # It is published as what it is.
        published = loads(OwnKeys("us.example", [new], lambda: NOW_MS, [(old.verify_key, 5000)])())
        keys = read_server_keys(published)
        assert keys.current.keys() == {"ed25519:new"}
        assert keys.old == {"ed25519:old": (old.verify_key, 5000)}

    play(scenario)
