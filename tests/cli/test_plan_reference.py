"""The page about `resilient plan` names every command and option, with the default that it has."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from resilient.cli.arguments import build_parser

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line-plan.md"


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands below a parser."""
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(groups[0].choices)


COMMANDS = commands_of(commands_of(build_parser())["plan"])


def sections() -> dict[str, str]:
    """The page by heading; a heading of several commands counts for each."""
    found = {}
    for part in PAGE.read_text("utf-8").split("\n## ")[1:]:
        heading, _, text = part.partition("\n")
        found |= dict.fromkeys(heading.split(", "), text)
    return found


def documented(command: str) -> dict[str, str]:
    """The options in a command's table, with their defaults."""
    rows = re.findall(r"^\| `(--[a-z-]+)[^`]*` \| (.*?) ?\|", sections()[command], re.MULTILINE)
    return {option: default.strip().strip("`") for option, default in rows}


def options(command: str) -> dict[str, argparse.Action]:
    """The options of a command's parser."""
    actions = COMMANDS[command]._actions
    return {one.option_strings[-1]: one for one in actions if one.option_strings and one.dest != "help"}


def test_commands() -> None:
    """The first table has every command with what it takes."""
    table = PAGE.read_text("utf-8").split("\n## ")[0]
    assert {one.split()[0] for one in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_options(command: str) -> None:
    """A command's table has its options, no others, and their defaults."""
    assert list(documented(command)) == list(dict.fromkeys(documented(command)))
    assert set(documented(command)) == set(options(command))
    for option, default in documented(command).items():
        action = options(command)[option]
        if action.default not in (None, False, "", []):
            shown = f"{action.default:g}" if isinstance(action.default, float) else str(action.default)
            assert default == shown, option


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command explains itself, and the exit codes, on 80 columns."""
    with pytest.raises(SystemExit) as left:
        build_parser().parse_args(["plan", command, "--help"])
    printed = capsys.readouterr().out
    assert left.value.code == 0
    assert printed.startswith(f"usage: resilient plan {command} ")
    assert "Exit codes: 0 completed;" in printed


def test_exit_codes() -> None:
    """The table of exit codes has those that `--help` tells."""
    codes = re.findall(r"^\| (\d+) \|", sections()["Exit codes"], re.MULTILINE)
    epilog = COMMANDS["run"].epilog or ""
    assert codes == re.findall(r"(\d+) (?:completed|failed|something|the plan|left)", epilog)
