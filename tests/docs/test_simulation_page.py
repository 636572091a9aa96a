"""The page about simulations names what the package has: options, defaults, members, fields, and the command's."""

import argparse
import dataclasses
import inspect
import re

import pytest

from resilient.cli import chaos_simulate
from resilient.cli.parser import Parser
from resilient.testing.simulation import arguments as simulation_arguments
from resilient.testing.simulation import counts as simulation_counts
from resilient.testing.simulation import run as simulation
from resilient.testing.simulation import traffic as simulation_traffic

from .test_reference import REFERENCE, words
from .test_testing_page import default, own

PAGE = "simulation.md"
TEXT = (REFERENCE / PAGE).read_text(encoding="utf-8")


def test_options() -> None:
    """Each option of `simulate` has its row, in order, with its default; no row is left over."""
    documented = {option: row[2] for option, row in words(PAGE, "option of `simulate`").items()}

    assert list(documented.items()) == [(one.name, default(one)) for one in own(simulation.simulate)]


def test_members() -> None:
    """Each public member of the result has its row; no row is left over."""
    shown = [one for cell in words(PAGE, "member of `Simulation`") for one in cell.split("`, `")]
    fields = {one.name for one in dataclasses.fields(simulation.Simulation)}
    names = fields | {name for name in dir(simulation.Simulation) if not name.startswith("_")}

    assert {one.partition("(")[0] for one in shown} == names
    assert len(shown) == len(names)


def test_fields() -> None:
    """Each field of an interval has its row, in order, and its properties are named."""
    assert list(words(PAGE, "field of `Interval`")) == [one.name for one in dataclasses.fields(simulation.Interval)]
    for name, value in vars(simulation.Interval).items():
        assert not isinstance(value, property) or f"`{name}`" in TEXT


def command() -> dict[str, argparse.Action]:
    group = Parser().add_subparsers()
    chaos_simulate.add(group)
    actions = group.choices["simulate"]._actions
    return {action.option_strings[-1]: action for action in actions if action.option_strings}


def test_command() -> None:
    """Each option of the command has its row, with its default; no row is left over."""
    rows = words(PAGE, "option")
    actions = command()

    assert set(rows) == set(actions) - {"--help"}
    for name, row in rows.items():
        value = actions[name].default
        given = ":".join(f"{one:g}" for one in value) if isinstance(value, tuple) else value
        given = f"{given:g}" if isinstance(given, float) else given
        assert row[2].strip("`") == ("" if given in (None, False) else str(given)), name


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (simulation_arguments.MOST_CALLS, "more than 20 million calls"),
        (simulation_arguments.MOST_CLIENTS, "1 to 1,000,000"),
        (simulation_traffic.MOST_UNDER_WAY, "more than 250,000 calls are under way"),
        (simulation_traffic.MOST_EVENTS, "the first 10,000 are kept"),
        (simulation_counts.STEADY_SHARE, "95 % of the usual share"),
    ],
)
def test_limits(number: float, shown: str) -> None:
    """The limits that the page names are those in force."""
    digits = re.search(r"[\d,.]+(?= million)", shown)
    if digits:
        assert float(digits[0]) * 1_000_000 == number
    elif number < 1:
        assert f"{number:.0%}".replace("%", " %") in shown
    else:
        assert f"{number:,}" in shown
    assert shown in TEXT


def test_docstring_says_the_same() -> None:
    """The docstring of `simulate` has each option, too."""
    said = inspect.getdoc(simulation.simulate) or ""

    assert all(f"    {one.name}: " in said for one in own(simulation.simulate))
