"""One Kafka broker (KRaft, one node) as a process on loopback."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from annals.server.parent_death import before_exec
from tests.support.kafka.installation import (
    FORMATTED,
    HEAP,
    KafkaUnavailable,
    ensure_installed,
    format_data,
    java,
    shared_classes,
)
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port

__all__ = ["KafkaBroker", "KafkaUnavailable"]

READY = b"Kafka Server started"

DEFAULTS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A consumer that was killed is missed soon.
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "300",
    "group.consumer.heartbeat.interval.ms": "1000",
    # After SIGKILL a restart waits until the old registration has run out (9 s where nothing is said); but a broker
    # that has no processor for so long takes itself for gone.
    "broker.session.timeout.ms": "6000",
    "broker.heartbeat.interval.ms": "500",
    "log.retention.ms": "-1",
    "log.cleaner.threads": "1",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.cleaner.backoff.ms": "500",
    "log.segment.delete.delay.ms": "1000",
    "log.index.size.max.bytes": "1048576",
}


class KafkaBroker:
    """A broker with its data below `directory`. Starts again on the same data and the same ports.

    `properties` replace or add to those of server.properties. `listeners` adds listeners beside PLAINTEXT, each with
    its security protocol: `{"TLS": "SSL", "LOGIN": "SASL_PLAINTEXT"}`; `address("TLS")` is where it listens.
    `quick` halves the work of a start; without it the broker serves faster once it is warm.
    It ends with the thread that started it, however that ends.
    """

    def __init__(
        self,
        directory: Path,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        heap: str = HEAP,
        quick: bool = True,
    ) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "kafka.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._properties = dict(properties or {})
        self._protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **(listeners or {})}
        self._ports = {listener: free_port() for listener in self._protocols}
        self._heap = heap
        self._compiler = ["-XX:TieredStopAtLevel=1"] if quick else []

    @property
    def bootstrap(self) -> str:
        """What clients take as bootstrap.servers."""
        return self.address("PLAINTEXT")

    def address(self, listener: str) -> str:
        return f"127.0.0.1:{self._ports[listener]}"

    @property
    def pid(self) -> int:
        assert self.process is not None, "not started"
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, java_options: Sequence[str] = ()) -> float:
        """Start it and wait until it serves; the seconds that took. Raises KafkaUnavailable."""
        assert not self.running, "runs already"
        began_s = time.monotonic()
        ensure_installed()
        self._start(java_options)
        return time.monotonic() - began_s

    def stop(self, timeout_s: float = PATIENCE_S) -> None:
        """SIGTERM, and SIGKILL to what outlives it."""
        if not self.running:
            return
        assert self.process is not None
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Both, however the block ends."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def write_properties(self) -> Path:
        """Write server.properties; returns its path."""
        self.directory.mkdir(parents=True, exist_ok=True)
        listeners = ",".join(f"{name}://{self.address(name)}" for name in self._protocols)
        advertised = ",".join(f"{name}://{self.address(name)}" for name in self._protocols if name != "CONTROLLER")
        settings = {
            **DEFAULTS,
            "controller.quorum.voters": f"1@{self.address('CONTROLLER')}",
            "listeners": listeners,
            "advertised.listeners": advertised,
            "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in self._protocols.items()),
            "log.dirs": str(self.data),
            **self._properties,
        }
        path = self.directory / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return path

    def _start(self, java_options: Sequence[str]) -> None:
        properties = self.write_properties()
        if not (self.data / "meta.properties").exists():
            self._format(properties)
        options = [*(java_options or shared_classes()), *self._compiler]
        with self.log.open("ab") as log:
            seen = log.tell()
            self.process = subprocess.Popen(
                [*java(*options, heap=self._heap), "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us
                preexec_fn=before_exec(signal.SIGKILL),
            )
        self._wait_until_ready(seen)

    def _format(self, properties: Path) -> None:
        """An empty data folder: a copy of the one that stands in the cache, with names of its own."""
        if not FORMATTED.exists():
            format_data(properties, self.data)
            return
        shutil.copytree(FORMATTED, self.data)
        meta = self.data / "meta.properties"
        lines = [line for line in meta.read_text().splitlines() if not line.startswith(("cluster.id", "directory.id"))]
        lines += [f"cluster.id={_random_id()}", f"directory.id={_random_id()}"]
        meta.write_text("\n".join(lines) + "\n")

    def _wait_until_ready(self, seen: int) -> None:
        assert self.process is not None
        deadline_s = time.monotonic() + PATIENCE_S
        while READY not in (said := self._said(seen)):
            if self.process.poll() is not None:
                raise KafkaUnavailable(f"the broker ended with {self.process.returncode}:\n{_tail(said)}")
            if time.monotonic() > deadline_s:
                self.kill()
                raise KafkaUnavailable(f"the broker is not ready after {PATIENCE_S} s:\n{_tail(said)}")
            time.sleep(0.02)

    def _said(self, seen: int) -> bytes:
        with self.log.open("rb") as log:
            log.seek(seen)
            return log.read()

    def __enter__(self) -> KafkaBroker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def _random_id() -> str:
    """16 random bytes as Kafka writes them; one that begins with a hyphen it would refuse."""
    while (name := base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")).startswith("-"):
        pass
    return name


def _tail(said: bytes) -> str:
    return said[-3000:].decode(errors="replace")
