"""Fixtures and settings of every test.

Chance: one seed a run, printed at the top, `--seed N` repeats it. Hypothesis uses it, and so does the fixture `rng`.
`--hypothesis-profile=soak` looks for longer, and runs more tests (tests/support/soak.py). At the end stands how long
each share (a folder of tests/) took.

What a failure says is kept short, on a CI system too: who looks for one failure must see that there are others.
"""

from __future__ import annotations

import gc
import logging
import os
import random
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.core
import pytest
import structlog

from tests.support.backends import log_backend
from tests.support.dead_workers import obituary, oom_kills
from tests.support.kafka import kafka, kafka_namespace, own_kafka
from tests.support.one_worker import end_servers, is_last, together
from tests.support.postgres import database_url, postgres
from tests.support.server_fixtures import embedded_live_server, kafka_live_server
from tests.support.shared_server import embedded_server, kafka_server
from tests.support.soak import PROFILE, is_soak, leave_out_soak

__all__ = [
    "database_url",
    "embedded_live_server",
    "embedded_server",
    "kafka",
    "kafka_live_server",
    "kafka_namespace",
    "kafka_server",
    "log_backend",
    "own_kafka",
    "postgres",
]

# Assertions that stand in modules that are no tests: pytest explains their failures too.
pytest.register_assert_rewrite("tests.support.log_contract")

SEED_BITS = 32

#: Folders whose files take minutes come first, or one worker would be left with them while the others have nothing.
SLOW_FIRST = (
    *("federation", "cluster", "crash", "generations", "rebuild", "eventlog", "egress", "audit", "e2e", "server"),
    *("migrations", "postgres15", "projectors", "ingest", "differential", "security", "commands", "api", "queries"),
    # One file is a minute long; what stands nowhere here is short, and last.
    *("schemathesis", "rooms", "schemas"),
)
CAPTURED_CHARS = 4_000

# Where pytest sees one of these, it shows the whole difference of two lists, however long.
for _name in ("CI", "BUILD_NUMBER"):
    os.environ.pop(_name, None)

_oom_kills = oom_kills()
_seconds: defaultdict[str, float] = defaultdict(float)
_tests: defaultdict[str, int] = defaultdict(int)

hypothesis.settings.register_profile(
    "ci",
    max_examples=25,
    deadline=None,
    print_blob=True,
    derandomize=False,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.register_profile(PROFILE, hypothesis.settings.get_profile("ci"), max_examples=1000)
hypothesis.settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="repeat the run that printed this seed")


def pytest_configure(config: pytest.Config) -> None:
    # As it comes, structlog prints a logged exception with every local variable: seconds of work for one.
    *others, _ = structlog.get_config()["processors"]
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*others, renderer])
    if config.getoption("--seed") is None:
        given = getattr(config, "workerinput", {}).get("seed")
        config.option.seed = random.SystemRandom().getrandbits(SEED_BITS) if given is None else given
    if config.getoption("--hypothesis-seed", None) is None:
        hypothesis.core.global_force_seed = config.option.seed


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays until the end, half a million objects: nobody looks whether it is garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out_soak(config, items)
    ranks = {folder: rank for rank, folder in enumerate(SLOW_FIRST)}
    items.sort(key=lambda item: ranks.get(_folder_of(together(item.nodeid) or item.nodeid), len(ranks)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By files; but one worker has all that share what takes long to start (tests/support/one_worker.py)."""
    if config.getoption("dist") != "loadfile" or is_soak(config):
        return None
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    class FilesTogether(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid) or str(super()._split_scope(nodeid))

    return FilesTogether(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """The workers of a run that is spread over several take its seed, or the printed one would repeat nothing."""
    node.workerinput["seed"] = node.config.option.seed


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    if error:
        print(f"\n{obituary(node, _oom_kills)}")  # noqa: T201 - at once, whether or not the run comes to its end


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Finalizers run here, not while a module is compiled that some plugin imports last of all: CPython 3.11 gives up
    then ("AST constructor recursion depth mismatch"), and with it the whole run."""
    gc.collect()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """The last test that may ask for the servers of the whole run has no time limit: it sees them compared."""
    if not is_last(item, nextitem):
        return (yield)
    if item.config.pluginmanager.has_plugin("timeout"):
        item.config.hook.pytest_timeout_cancel_timer(item=item)
    result = yield
    end_servers(item)
    return result


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.option.seed}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of what a test has printed and logged the end is shown."""
    report = yield
    report.sections = [(name, text[-CAPTURED_CHARS:]) for name, text in report.sections]
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    share = _share_of(report.nodeid)
    _seconds[share] += report.duration
    _tests[share] += report.when == "call"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    shares = sorted(_seconds, key=lambda share: -_seconds[share])
    spent = ", ".join(f"{share} {_seconds[share]:.1f} s ({_tests[share]})" for share in shares)
    terminalreporter.write_line(f"seed {config.option.seed} (repeat: --seed {config.option.seed})")
    terminalreporter.write_line(f"time by share (tests): {spent}")


def _folder_of(nodeid: str) -> str:
    parts = nodeid.split("/")
    return parts[1] if len(parts) > 1 else ""


def _share_of(nodeid: str) -> str:
    parts = Path(nodeid.partition("::")[0]).parts
    return parts[1] if len(parts) > 2 else "tests"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chance that `--seed` repeats, each test with its own."""
    return random.Random(f"{request.config.option.seed}:{request.node.nodeid}")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that a test runs in this process sends all log lines to its own stderr, which ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any setting of a server."""
    for name in list(os.environ):
        if name.startswith("ANNALS_") or name in ("DATABASE_URL", "KAFKA_BOOTSTRAP"):
            monkeypatch.delenv(name)
