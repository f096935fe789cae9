"""docs/operating.md names settings, commands and numbers: each of them exists."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from annals.server.cli import parser
from annals.server.config import Config
from annals.server.config_kafka import KafkaSection
from tests.support import nursery

DOC = Path(__file__).parents[2] / "docs" / "operating.md"
TEXT = DOC.read_text()
CODE = re.findall(r"`([^`\n]+)`", TEXT)

# In a process of its own: what other tests count would be found too.
NUMBERS = """
import annals.api.metrics, annals.projectors.metrics
from prometheus_client import REGISTRY
print(*(sample for family in REGISTRY.collect() for sample in (
    family.name + "_total" if family.type == "counter" else family.name,)))
"""


def test_the_numbers_are_counted() -> None:
    named = {word for word in CODE if re.fullmatch(r"annals_\w+", word)}
    shown = nursery.run("-c", NUMBERS, environment=os.environ).stdout
    assert len(named) > 5
    assert named <= set(shown.split())


@pytest.mark.parametrize("command", sorted({word for word in CODE if word.startswith("annals ")}))
def test_the_commands_are_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = command.replace("FOLDER", "x").split()[1:]
    try:
        parser().parse_args(words)
    except SystemExit:
        # Named without its arguments: known, but not whole.
        assert "the following arguments are required" in capsys.readouterr().err


def test_the_example_is_a_configuration(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", TEXT, re.S)
    assert example is not None
    files = tmp_path / "etc"
    files.mkdir()
    settings: dict[str, Any] = tomllib.loads(example[1].replace("/etc/annals", str(files)))
    for setting, value in settings["kafka"].items():
        if setting.endswith("_file"):
            Path(value).write_text("x")
    section = Config(**settings).kafka
    assert section.librdkafka()["sasl.password"] == "x"
    # All of the section is shown.
    assert settings["kafka"].keys() == KafkaSection.model_fields.keys()


def test_the_settings_that_the_text_names_are_there() -> None:
    known = Config.model_fields.keys() | KafkaSection.model_fields.keys()
    named = {word for word in CODE if re.fullmatch(r"[a-z]+(_[a-z]+)+", word)}
    assert {"data_dir", "min_insync_replicas"} <= named
    strangers = {word for word in named - known if not word.startswith("annals_")}
    lines = {"log_behind_tables", "partition_stopped", "partitions_given_up", "waits_for_tables"}
    assert strangers == lines | {"pg_dump", "pg_restore", "as_token", "hs_token", "sender_localpart"}


def test_log_lines_that_the_text_names_are_written() -> None:
    loop = (DOC.parents[1] / "projectors" / "loop.py").read_text()
    assert '"partition_stopped"' in loop
    assert '"partitions_given_up"' in loop
    assert '"waits_for_tables"' in (DOC.parents[1] / "server" / "house.py").read_text()
    assert '"log_behind_tables"' in (DOC.parents[1] / "projectors" / "positions" / "appending.py").read_text()
