"""annals check-resolution: what do our auth rules and state resolution make of somebody's room?"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from annals.server.cli import Commands

_DESCRIPTION = """\
Reads cases from standard input, one JSON object a line:
  {"room_version": "10", "events": [PDU with "event_id", ...], "state_sets": [[[type, state_key, event_id], ...], ...]}
and prints for each a line: {"resolved": [[type, state_key, event_id], ...], "rejected": [event_id, ...]}, both sorted.
Rejected are the events that the auth rules refuse, by what they cite or by the state before them. Event ids are taken
as given; signatures and hashes are not looked at. For a case that cannot be read: {"error": "..."}, and status 1.
"""


def register(commands: Commands) -> None:
    parser = commands.add("check-resolution", "judge and resolve rooms given as JSON lines", _check_resolution)
    parser.description = _DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def _check_resolution(arguments: argparse.Namespace) -> int:
    from annals.server.resolution_cases import answer_line

    failed = False
    for line in sys.stdin.buffer:
        if line.strip():
            answer, is_error = answer_line(line)
            failed |= is_error
            sys.stdout.buffer.write(answer + b"\n")
            sys.stdout.buffer.flush()
    return int(failed)
