"""docs/audit.md is true: every command that it names is one, with the options that it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from annals.server.cli import parser

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
COMMANDS = sorted({found for found in re.findall(r"`annals ([^`]+)`", PAGE) if found != "serve"})


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_exists(command: str) -> None:
    words = shlex.split(command.replace("OFFSET...", "1"))
    if words == ["log", "show"]:
        words.append("!room")  # mentioned by its name alone
    assert callable(parser().parse_args(words).handler)
