"""annals log copy: the embedded log, 1:1, to Kafka or to another place."""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from annals.audit.log_copy import Copied, Progress, Source
    from annals.eventlog.api import Log
    from annals.schemas.topics import TopicSpec
    from annals.server.cli import Commands
    from annals.server.config import Config

_SAY_EVERY_S = 0.5
_KAFKA = "kafka"


def register(commands: Commands) -> None:
    copy = commands.add("log copy", "copy the embedded log to Kafka, with the same offsets and the same id", _copy)
    copy.add_argument("--from", dest="source", type=Path, metavar="DIR", help="the embedded log (DATA_DIR/log)")
    copy.add_argument(
        "--to", required=True, metavar="TARGET", help="`kafka`, as the configuration has it; or a folder, embedded"
    )
    copy.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare every record with its copy at the end (yes)",
    )


def _copy(arguments: argparse.Namespace) -> int:
    from annals.audit.log_compare import CopyDiffers
    from annals.audit.log_copy import CopyRefused, copy_log, verify_copy
    from annals.server.config import load
    from annals.server.operator_access import said

    def copy() -> int:
        config = load(arguments.config)
        directory = (arguments.source or config.log_dir).absolute()
        line = _ProgressLine()
        try:
            with _source(config, directory) as source, closing(_target(config, arguments.to, source, directory)) as to:
                done = copy_log(source, to, on_progress=line)
                _say_copied(done, arguments.to)
                if arguments.verify:
                    compared = verify_copy(source, to, on_progress=line)
                    records = sum(partition.records for partition in compared.values())
                    print(f"compared {records} records in {len(compared)} partitions: the copy is like its source")
        except (CopyRefused, CopyDiffers) as error:
            line.end()
            for text in str(error).splitlines():
                _complain(f"annals: {text}")
            return 1
        print("use the copy from now on, with the same database and keys; keep the source, but do not serve from it")
        return 0

    return said(copy, _complain)


def _say_copied(done: Copied, to: str) -> None:
    before = f", {done.resumed} offsets were there before" if done.resumed else ""
    print(f"log {done.log_id} is copied to {to}: {done.records} records, {done.fillers} fillers{before}")


@contextmanager
def _source(config: Config, directory: Path) -> Iterator[Source]:
    """The embedded log in a folder, copied by us alone. ConfigError where it is not this server's."""
    from annals.audit.log_copy import CopyRefused
    from annals.eventlog.embedded import has_log, open_embedded
    from annals.server.config import ConfigError
    from annals.server.log_setup import first_genesis

    if not has_log(directory):
        raise ConfigError(f"--from: there is no embedded log in {directory}")
    with (directory / "copy.lock").open("w") as lock, closing(open_embedded(directory)) as log:
        try:
            # The kernel lets go of it when we end, however.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CopyRefused("another copy of this log runs") from None
        genesis = first_genesis(log)
        if genesis is None or genesis.server_name != config.server_name:
            owner = genesis.server_name if genesis else "nobody"
            raise ConfigError(f"server_name: the log in {directory} is that of {owner}, not of {config.server_name}")
        yield log


def _target(config: Config, to: str, source: Source, directory: Path) -> Log:
    """Open what is copied into; where nothing is, make it. What is another log is left as it is."""
    from annals.audit.log_copy import CopyRefused, topics_of
    from annals.eventlog.embedded import open_embedded
    from annals.server.clock import now_ms

    topics = topics_of(source)
    if to == _KAFKA:
        return _kafka(config, topics, source.log_id)
    if Path(to).absolute().resolve() == directory.resolve():
        raise CopyRefused("source and target are the same folder")
    log = open_embedded(Path(to), clock_ms=now_ms, new_id=source.log_id)
    if log.log_id == source.log_id:
        log.ensure_topics(topics)
    return log


def _kafka(config: Config, topics: Sequence[TopicSpec], log_id: str) -> Log:
    from annals.audit.log_copy import CopyRefused
    from annals.eventlog.errors import TopicsDiffer
    from annals.eventlog.kafka import initialise, open_kafka
    from annals.server.clock import now_ms
    from annals.server.config import ConfigError, kafka_settings

    if not config.kafka_bootstrap:
        raise ConfigError("kafka_bootstrap: not set: where are the brokers to copy to?")
    settings = kafka_settings(config)
    try:
        initialise(settings, topics, log_id)
    except TopicsDiffer as error:
        differences = "\n".join(error.differences)
        raise CopyRefused(
            f"namespace {settings.namespace} holds another log, or topics that are not as they must be. A copy is made "
            f"in a namespace where nothing is (`annals log init` is not needed):\n{differences}"
        ) from error
    return open_kafka(settings, clock_ms=now_ms)


class _ProgressLine:
    """A line on the terminal that tells how far it is, and how long it will take."""

    def __init__(self) -> None:
        self._phase = ""
        self._began_s = self._said_s = time.monotonic()
        self._first = 0

    def __call__(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if progress.phase != self._phase:
            self._phase, self._first, self._began_s = progress.phase, progress.done, now_s
        if progress.done >= progress.total:
            self.end()
        elif now_s - self._said_s >= _SAY_EVERY_S and sys.stderr.isatty():
            self._said_s = now_s
            print("\r\x1b[K" + self._text(progress, now_s), end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """The terminal is for others again."""
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _text(self, progress: Progress, now_s: float) -> str:
        text = f"{progress.phase} {progress.done} of {progress.total} ({100 * progress.done / progress.total:.0f} %)"
        if (made := progress.done - self._first) > 0:
            left_s = (progress.total - progress.done) * (now_s - self._began_s) / made
            text += f", about {left_s:.0f} s to go"
        return text


def _complain(line: str) -> None:
    print(line, file=sys.stderr)
