"""Verifying the PDUs of a transaction or an answer together: one thread hop where every key is known."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from annals.ingest.keyring import KeyMissing, KeyNeed, Keyring
from annals.ingest.verification import Candidate, KeyLookup, Outcome, Prepared, Quarantined, judge, prepare
from annals.matrix.server_keys import KnownKey

__all__ = ["PduVerifier"]


@dataclass(frozen=True, slots=True)
class _Lacking:
    prepared: Prepared


class PduVerifier:
    """Verifies PDUs with the keys of a keyring. `threads`: where the arithmetic is done."""

    def __init__(self, keyring: Keyring, threads: Executor) -> None:
        self._keyring, self._threads = keyring, threads

    async def verify(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """What each PDU is, in their order. No PDU keeps another waiting but for keys, which are asked for together.

        Raises what the key store raises; a bad PDU raises nothing.
        """
        loop = asyncio.get_running_loop()
        first = await loop.run_in_executor(self._threads, _first_pass, candidates, self._keyring.known)
        lacking = [item.prepared for item in first if isinstance(item, _Lacking)]
        if not lacking:
            return [item for item in first if not isinstance(item, _Lacking)]
        # All keys of the batch at once: one request a server, whatever the number of its events.
        keys = await self._keyring.keys({need for prepared in lacking for need in prepared.all_needs()})
        second = iter(await loop.run_in_executor(self._threads, _second_pass, lacking, keys.get))
        return [next(second) if isinstance(item, _Lacking) else item for item in first]

    async def prepare(self, candidates: Sequence[Candidate]) -> list[Prepared | Quarantined]:
        """The first half of `verify`, for many PDUs of which some shall be used before all are verified."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _prepare_all, candidates)

    async def keys(self, prepared: Sequence[Prepared]) -> KeyLookup:
        """What is to be had of the keys that these need, asked for together. Raises what the key store raises."""
        loop, known = asyncio.get_running_loop(), self._keyring.known
        needs = await loop.run_in_executor(self._threads, _to_be_asked_for, prepared, known)
        found = await self._keyring.keys(needs) if needs else {}
        return lambda need: found.get(need) or known(need)

    async def judge(self, prepared: Sequence[Prepared], keys: KeyLookup) -> list[Outcome]:
        """The second half: what the signatures say, by these keys."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _second_pass, prepared, keys)


def _prepare_all(candidates: Sequence[Candidate]) -> list[Prepared | Quarantined]:
    return [prepare(candidate) for candidate in candidates]


def _to_be_asked_for(prepared: Sequence[Prepared], known: KeyLookup) -> set[KeyNeed]:
    return {need for item in prepared if _lacks(item, known) for need in item.all_needs()}


def _lacks(item: Prepared, known: KeyLookup) -> bool:
    # One known key a server is enough; where there is none, memory's word is not the last one.
    return any(_must_be_asked_for([known(need) for need in of_signer]) for of_signer in item.needs)


def _first_pass(candidates: Sequence[Candidate], known: KeyLookup) -> list[Outcome | _Lacking]:
    return [_outcome(prepare(candidate), known) for candidate in candidates]


def _outcome(item: Prepared | Outcome, known: KeyLookup) -> Outcome | _Lacking:
    if not isinstance(item, Prepared):
        return item
    if _lacks(item, known):
        return _Lacking(item)
    return judge(item, known)


def _second_pass(lacking: Sequence[Prepared], keys: KeyLookup) -> list[Outcome]:
    return [judge(prepared, keys) for prepared in lacking]


def _must_be_asked_for(keys: Sequence[KnownKey | KeyMissing | None]) -> bool:
    return None in keys and not any(isinstance(key, KnownKey) for key in keys)
