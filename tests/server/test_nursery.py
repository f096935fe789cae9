"""A command of the nursery (tests.support.nursery) is a process as one that starts by itself."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path

from tests.support import nursery
from tests.support.servers import alive, until

_SELF = """
import json, os, signal, sys, threading
wakeup = signal.set_wakeup_fd(-1)
print(json.dumps({
    "environment": dict(os.environ), "arguments": sys.argv[1:], "threads": threading.active_count(), "wakeup": wakeup,
    "files": sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{fd}")),
    "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "leads": os.getsid(0) == os.getpid(),
}))
"""


def test_it_has_its_own_of_everything() -> None:
    ended = nursery.run("-c", _SELF, "one", "two", environment={"GIVEN": "yes"})
    assert json.loads(ended.stdout) == {
        "environment": {"GIVEN": "yes"},
        "arguments": ["one", "two"],
        "threads": 1,
        "wakeup": -1,
        "files": [0, 1, 2],
        "term": True,
        "leads": False,
    }


def test_its_status_and_what_it_says() -> None:
    assert nursery.run("--help", environment=os.environ).stdout.startswith("usage: annals")
    wrong = nursery.run("nonsense", environment=os.environ)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "invalid choice" in wrong.stderr
    failed = nursery.run("-c", "raise RuntimeError('why')", environment=os.environ)
    assert failed.returncode == 1
    assert "RuntimeError: why" in failed.stderr


def test_it_can_be_found_and_killed() -> None:
    with tempfile.TemporaryFile() as output:
        program = "print('up', flush=True); import time; time.sleep(600)"
        command = nursery.begin("-c", program, environment=os.environ, output=output, new_session=True)
        try:
            until(lambda: os.fstat(output.fileno()).st_size, 60, "its first word")
            words = Path(f"/proc/{command.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            assert words[1:] == [b"-c", program.encode()]
            assert os.getsid(command.pid) == command.pid
            assert command.poll() is None
        finally:
            command.kill()
        assert command.wait(60) == -signal.SIGKILL
        assert not alive(command.pid)
