"""Processes beside the test that write to a log, or follow it, until they are killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from annals.eventlog.api import Append, Log, TopicPartition

Opener = Callable[[], Log]
#: Interpreters that know nothing of this one, forked by a process that has imported the logs.
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload([__name__, "annals.eventlog.embedded", "annals.eventlog.kafka"])


@contextmanager
def process(target: Callable[..., None], *args: Any) -> Iterator[ForkServerProcess]:
    """Runs `target` in a process that was no part of this one; killed, where it still runs, when the block ends."""
    child = SPAWN.Process(target=target, args=args, daemon=True)
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()


def payload(worker: str, sequence: int, size: int) -> bytes:
    """A value that shows whether it was torn: it carries its own checksum."""
    body = f"{worker} {sequence} ".encode().ljust(size, b".")
    return zlib.crc32(body).to_bytes(4, "big") + body


def parse(value: bytes) -> tuple[str, int]:
    """Worker and sequence number. Fails on a value that is not whole."""
    assert zlib.crc32(value[4:]) == int.from_bytes(value[:4], "big"), "torn record"
    worker, sequence, _ = value[4:].split(b" ", 2)
    return worker.decode(), int(sequence)


def write_until_killed(opener: Opener, topic: str, worker: str, seed: int, acknowledged: Path) -> None:
    """Appends one or three records at a time; writes `partition offset sequence` for each acknowledged one."""
    rng = random.Random(seed)
    log = opener()
    partitions = log.partitions(topic)
    out = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sequence = 0
    while True:
        records: list[Append] = []
        for _ in range(rng.choice((1, 3))):
            value = payload(worker, sequence + len(records), rng.choices((20, 1000, 60_000), (10, 5, 1))[0])
            records.append(Append(topic, rng.randrange(partitions), worker.encode(), value))
        offsets = log.append(records).result()
        lines = [
            f"{record.partition} {offset} {sequence + n}\n"
            for n, (record, offset) in enumerate(zip(records, offsets, strict=True))
        ]
        os.write(out, "".join(lines).encode())
        sequence += len(records)


def write_some(opener: Opener, topic: str, worker: str, count: int) -> None:
    """Appends `count` records to partition 0, in flight together."""
    log = opener()
    futures = [log.append([Append(topic, 0, worker.encode(), payload(worker, n, 100))]) for n in range(count)]
    for future in futures:
        future.result()
    log.close()


def echo(opener: Opener, source: str, target: str, ready: Any) -> None:
    """Copies each record of `source` to `target`, as it comes."""
    log = opener()
    tail = log.tail({(source, 0): log.end(source, 0)})
    ready.set()
    while True:
        for record in tail.poll(None):
            log.append([Append(target, 0, record.key, record.value)]).result()


def follow_slowly(opener: Opener, topic: str, ready: Any) -> None:
    """Follows a topic but never reads again: its socket fills up."""
    log = opener()
    tail = log.tail({(topic, 0): 0})
    tail.poll(0)
    ready.set()
    SPAWN.Event().wait()


def hold_partitions(opener: Opener, group: str, topics: list[str], held: Any) -> None:
    """A member of a group that tells what it has, whenever that changes, through the pipe `held`."""
    member = opener().join(group, topics)
    told: frozenset[TopicPartition] | None = None
    while True:
        ours = member.poll(0.1)
        if ours != told:
            held.send(ours)
            told = ours
