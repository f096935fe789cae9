"""The keeper of a run's broker: a process that lives as long as the broker has users (shared.py)."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from pathlib import Path

from tests.support.kafka.broker import KafkaBroker


def keep(folder: Path) -> None:
    """From the start of the broker to the end of its last user."""
    # It is never killed, and so need not be missed soon.
    broker = KafkaBroker(folder / "own", {"broker.session.timeout.ms": "120000"}, quick=False)
    found = folder / "broker"
    with (folder / "users").open("a") as users:
        try:
            broker.start()
            part = folder / "broker.part"
            part.write_text(json.dumps({"bootstrap": broker.bootstrap, "pid": broker.pid}))
            part.rename(found)
            os.write(1, b"ready\n")
            os.close(1)
            fcntl.flock(users, fcntl.LOCK_EX)
        finally:
            found.unlink(missing_ok=True)
            broker.kill()
            shutil.rmtree(broker.data, ignore_errors=True)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
