"""The token cache never outlives a log-out, whatever overlaps with it."""

from __future__ import annotations

from annals.queries.accounts_tokens import TokenCache, TokenOwner, hash_of

ALICE = TokenOwner("@alice:x", "PHONE", False)
BOB = TokenOwner("@bob:x", "PHONE", False)
ONE, TWO, THREE = (hash_of(token) for token in ("one", "two", "three"))


def test_a_user_that_moves_is_dropped_and_others_stay() -> None:
    cache = TokenCache()
    cache.store(ONE, ALICE, cache.begin())
    cache.store(TWO, ALICE, cache.begin())
    cache.store(THREE, BOB, cache.begin())
    cache.heard(["@alice:x", "@nobody:x"], everything=False)
    assert (cache.get(ONE), cache.get(TWO), cache.get(THREE)) == (None, None, BOB)


def test_what_was_read_before_a_move_is_not_stored_after_it() -> None:
    cache = TokenCache()
    begun = cache.begin()
    cache.users_moved(["@alice:x"])
    cache.store(ONE, ALICE, begun)
    cache.store(TWO, BOB, begun)
    assert (cache.get(ONE), cache.get(TWO)) == (None, BOB)
    cache.store(ONE, ALICE, cache.begin())
    assert cache.get(ONE) == ALICE


def test_what_was_read_before_a_clear_is_not_stored_after_it() -> None:
    cache = TokenCache()
    cache.store(TWO, BOB, cache.begin())
    begun = cache.begin()
    cache.heard([], everything=True)
    cache.store(ONE, ALICE, begun)
    assert (cache.get(ONE), cache.get(TWO)) == (None, None)


def test_moves_that_are_forgotten_still_count() -> None:
    cache = TokenCache(moves_max=2)
    begun = cache.begin()
    for user_id in ("@alice:x", "@b:x", "@c:x", "@d:x"):
        cache.users_moved([user_id])
    cache.store(ONE, ALICE, begun)
    assert cache.get(ONE) is None
    cache.store(ONE, ALICE, cache.begin())
    assert cache.get(ONE) == ALICE


def test_the_cache_is_bounded_and_keeps_what_is_used() -> None:
    cache = TokenCache(size_max=2)
    cache.store(ONE, ALICE, cache.begin())
    cache.store(TWO, BOB, cache.begin())
    assert cache.get(ONE) == ALICE
    cache.store(THREE, ALICE, cache.begin())
    assert (cache.get(ONE), cache.get(TWO), cache.get(THREE)) == (ALICE, None, ALICE)
    cache.users_moved(["@bob:x", "@alice:x"])
    assert (cache.get(ONE), cache.get(THREE)) == (None, None)
