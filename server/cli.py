"""`annals`: the command line.

Each module `annals.server.commands_*` adds commands of one area: `register(commands: Commands) -> None`. They import at
their top what is light only (the standard library); what a command needs, it imports when it runs, so that
`annals --help` is quick and `annals serve` stays small.

Exit status: 0, 1 when a command failed, 2 on wrong usage, 78 when the configuration is at fault.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import annals.server

# Takes the parsed arguments, returns the exit status.
Handler = Callable[[argparse.Namespace], int]
EXIT_CONFIG = 78


class Commands:
    """Where the modules register their commands."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._groups: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
        self._top = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(self, words: str, help_text: str, handler: Handler, *, hidden: bool = False) -> argparse.ArgumentParser:
        """Add a command of one word or two (`serve`, `log show`); returns its parser, for its arguments.

        Every command has --config; read it with `load_config(arguments)`.
        """
        group, _, name = words.rpartition(" ")
        among = self._group(group) if group else self._top
        if hidden:
            parser = among.add_parser(name, description=help_text)
        else:
            parser = among.add_parser(name, help=help_text, description=help_text)
        parser.add_argument("--config", type=Path, metavar="FILE", help="settings (TOML); also ANNALS_CONFIG")
        parser.set_defaults(handler=handler)
        return parser

    def _group(self, name: str) -> argparse._SubParsersAction[argparse.ArgumentParser]:
        if name not in self._groups:
            parser = self._top.add_parser(name, help=f"see: annals {name} --help")
            self._groups[name] = parser.add_subparsers(metavar="COMMAND", required=True)
        return self._groups[name]


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="annals", description="A Matrix homeserver whose only truth is a log.")
    commands = Commands(top)
    for module in sorted(pkgutil.iter_modules(annals.server.__path__), key=lambda module: module.name):
        if module.name.startswith("commands_"):
            importlib.import_module(f"annals.server.{module.name}").register(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parsed = parser().parse_args(arguments)
    handler: Handler = parsed.handler
    try:
        return handler(parsed)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has enough
        sys.stderr.close()
        return 0
    except Exception as error:
        # Named by its name: to import the class would import all that reading a configuration takes.
        if type(error).__name__ != "ConfigError":
            raise
        for line in str(error).splitlines():
            print(f"annals: {line}", file=sys.stderr)
        return EXIT_CONFIG


if __name__ == "__main__":
    sys.exit(main())
