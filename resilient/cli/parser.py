"""The parser behind every command: what is wrong with arguments is said without showing what may be a secret."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose exit code for wrong arguments is `wrong`, and which takes options by their full names."""

    wrong = 2

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An abbreviation that fits several options would be quoted with its value.
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and leave."""
        self.print_usage(sys.stderr)
        self.exit(self.wrong, f"{self.prog}: error: {message}\n")

    def show_help(self, _: argparse.Namespace) -> int:
        """What a group does without a command."""
        self.print_help()
        return 0

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """The arguments; unknown ones are refused here, where the command and its exit code are known."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(_without_value(one) for one in rest)}")
        return found, rest


def add_command(
    group: argparse._SubParsersAction[Parser],
    name: str,
    what: str,
    more: str,
    *,
    epilog: str,
    run: Callable[[argparse.Namespace], int],
) -> Parser:
    """A command of a group, which says in its help what it does, as a sentence, and more."""
    parser = group.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.{more}", epilog=epilog)
    parser.set_defaults(run=run)
    return parser


def _without_value(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return f"{name}=..." if equals and value else argument
