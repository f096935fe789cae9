"""Log lines in one form, whoever writes them, and the numbers of all processes in one answer."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from annals.server.config import ConfigError, Metrics
from annals.server.telemetry import serve_metrics
from tests.support import nursery
from tests.support.ports import free_port

SPEAKS = """
import logging, structlog
from annals.server.config import Logging
from annals.server.telemetry import configure_logging
configure_logging(Logging(level="info", format="json"), "api")
structlog.get_logger("annals.x").info("room halted", room_id="!r", offset=7)
logging.getLogger("uvicorn.error").warning("told %s", "so")
structlog.get_logger("annals.x").debug("not shown")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger("annals.x").exception("broken")
"""

COUNTS = """
import sys
from prometheus_client import Counter
from annals.server.telemetry import metrics_text
Counter("annals_test_events", "counted by a test").inc(int(sys.argv[1]))
if sys.argv[2] == "show":
    print(metrics_text()[0].decode())
"""


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, check=True
    )


def test_every_line_is_json_with_level_logger_and_role() -> None:
    said = nursery.run("-c", SPEAKS, environment={}).stderr
    lines = [json.loads(line) for line in said.splitlines()]
    assert [(line["event"], line["level"], line["logger"], line["role"]) for line in lines] == [
        ("room halted", "info", "annals.x", "api"),
        ("told so", "warning", "uvicorn.error", "api"),
        ("broken", "error", "annals.x", "api"),
    ]
    assert (lines[0]["room_id"], lines[0]["offset"]) == ("!r", 7)
    assert lines[2]["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_numbers_of_all_processes_are_summed(tmp_path: Path) -> None:
    run(COUNTS, "2", "keep", PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    shown = run(COUNTS, "3", "show", PROMETHEUS_MULTIPROC_DIR=str(tmp_path)).stdout
    assert "annals_test_events_total 5.0" in shown


FAILS = """
import sys, structlog
from annals.server.config import Logging
from annals.server.telemetry import configure_logging
configure_logging(Logging(format=sys.argv[1]), "api")
said = "what somebody " + "said"
try:
    raise ValueError(len(said))
except ValueError:
    structlog.get_logger("annals.x").exception("failed")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variables(form: str) -> None:
    shown = nursery.run("-c", FAILS, form, environment={}).stderr
    assert "ValueError" in shown
    assert "what somebody said" not in shown


SERVES = """
import sys, urllib.request
from prometheus_client import Counter
from annals.server.config import Metrics
from annals.server.telemetry import serve_metrics
Counter("annals_test_events", "counted by a test").inc(3)
serve_metrics(Metrics(port=int(sys.argv[1])))
print(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics").read().decode())
"""


def test_a_process_without_a_listener_answers_metrics_at_a_port_of_its_own() -> None:
    assert "annals_test_events_total 3.0" in run(SERVES, str(free_port())).stdout


def test_a_port_that_is_taken_is_a_fault_of_the_configuration() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"metrics: 127.0.0.1 port {port}"):
            serve_metrics(Metrics(port=port))
