"""What a broker is started from: .cache/kafka, which the Makefile fills.

    libs/            the artifacts of pom.xml
    formatted/       the data folder of a broker that never ran, to be copied
    classes.jsa      the classes that a broker loads, as the Java virtual machine likes them: halves a start

`python -m tests.support.kafka.prepare` makes the last two; a broker starts without them too, more slowly.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
CACHE = CHECKOUT / ".cache" / "kafka"
LIBS, FORMATTED, CLASSES = CACHE / "libs", CACHE / "formatted", CACHE / "classes.jsa"
INSTALLED = CACHE / ".installed"
LOCK = CACHE.parent / "kafka.lock"
JAVA = os.environ.get("JAVA", "java")
HEAP = "256m"


class KafkaUnavailable(Exception):
    """There is no broker to be had; the message says why."""


def ensure_installed() -> None:
    """Have the Makefile fetch what is missing, once however many ask. Raises KafkaUnavailable."""
    if LIBS.exists():
        return
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if LIBS.exists():
            return
        target = str(INSTALLED.relative_to(CHECKOUT))
        made = subprocess.run(["make", "--silent", target], cwd=CHECKOUT, capture_output=True, text=True)
    if made.returncode != 0:
        raise KafkaUnavailable(made.stdout[-2000:] + made.stderr[-2000:])


def java(*options: str, heap: str = HEAP) -> list[str]:
    """The command up to the main class."""
    # In a fixed order: an archive of classes fits the class path that it was made with.
    class_path = os.pathsep.join(str(jar) for jar in sorted(LIBS.glob("*.jar")))
    return [
        JAVA,
        f"-Xms{heap}",
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
        "-Dlog4j2.statusLoggerLevel=OFF",
        *options,
        "-cp",
        class_path,
    ]


def shared_classes() -> list[str]:
    """The option that takes the archive; none where it is missing. One that does not fit is passed over by Java."""
    return [f"-XX:SharedArchiveFile={CLASSES}", "-Xshare:auto", "-Xlog:disable"] if CLASSES.exists() else []


def format_data(properties: Path, data: Path) -> None:
    """Make an empty broker's data folder. Raises KafkaUnavailable."""
    command = [*java("-XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool", "format"]
    cluster = "annals-tests-AAAAAAAAA"  # 22 characters: 16 bytes as Kafka writes them
    done = subprocess.run(
        [*command, "-t", cluster, "-c", str(properties)], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0 or not (data / "meta.properties").exists():
        raise KafkaUnavailable(done.stdout + done.stderr)
