"""The pages about recovery tests and the pytest plugin name what there is: parameters, fields, members, options."""

import ast
import dataclasses
import enum
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resilient import testing
from resilient.testing import guard, plugin, seeds
from resilient.testing.recovery import configs, statistics

from . import pages
from .test_recovery_pages import signature
from .test_reference import words

PAGE = "recovery-testing.md"
PLUGIN = "pytest-plugin.md"

#: What has a table of parameters.
OPTIONS: tuple[type[Any], ...] = (
    testing.RecoveryTestScenario,
    testing.ErrorInjectionConfig,
    testing.ExpectedRecoveryBehavior,
    testing.SuccessCriteria,
    testing.Probe,
    testing.RecoveryTestFramework,
)
#: What has a table of fields.
FIELDS: tuple[type[Any], ...] = (
    testing.RecoveryTestResult,
    testing.Check,
    testing.Phase,
    testing.FaultRecord,
    testing.Operation,
    testing.TimelineEvent,
)
#: What has a table of members; what it is made from has a table of its own, or is named in the first sentence.
MEMBERS: dict[type[Any], set[str]] = {
    testing.RecoveryTestScenario: set(),
    testing.ErrorInjectionConfig: set(),
    testing.RecoveryTestFramework: {"metrics_collector", "seed", "allow_in_production"},
    testing.RecoveryTestResult: set(),
    testing.TestReport: {"results"},
    testing.RecoveryMetricsCollector: {"registry"},
}
#: Classes of fields that have members besides, which stand in a sentence below the table.
EXTRAS = {testing.Phase: {"success_rate"}, testing.Operation: {"ok", "duration"}}
ENUMS: dict[str, type[enum.Enum]] = {
    "injection type": testing.ErrorInjectionType,
    "recovery mode": testing.RecoveryMode,
    "status": testing.TestStatus,
}


def name_of(kind: Any) -> str:
    return str(kind.__name__)


def default(kind: type[Any], parameter: inspect.Parameter) -> str:
    """A default in the way of the tables."""
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "required"
    if repr(value) == "<factory>":  # of a dataclass, which makes a new one each time
        (field,) = [one for one in dataclasses.fields(kind) if one.name == parameter.name]
        return "`{}`" if field.default_factory is dict else f"`{field.default_factory.__name__}()`"  # type: ignore[union-attr]
    return f"`{value}`" if isinstance(value, enum.Enum) else f"`{value!r}`"


def public(kind: type[Any]) -> dict[str, Any]:
    """The members of a class that it does not share with every dataclass: no fields, nothing private."""
    fields = {one.name for one in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    return {name: one for name, one in vars(kind).items() if not name.startswith("_") and name not in fields}


@pytest.mark.parametrize("kind", OPTIONS, ids=name_of)
def test_options(kind: Any) -> None:
    """Each parameter has its row, in order and with its default; no row is left over."""
    documented = {option: row[2] for option, row in words(PAGE, f"option of `{kind.__name__}`").items()}
    expected = [(one.name, default(kind, one)) for one in inspect.signature(kind).parameters.values()]

    assert list(documented.items()) == expected


@pytest.mark.parametrize("kind", FIELDS, ids=name_of)
def test_fields(kind: Any) -> None:
    """Each field has its place in the table, in order; no row is left over."""
    documented = [one for cell in words(PAGE, f"field of `{kind.__name__}`") for one in cell.split("`, `")]
    fields = [one.name for one in dataclasses.fields(kind)]

    assert documented == fields
    if kind not in MEMBERS:
        assert set(public(kind)) == EXTRAS.get(kind, set())


@pytest.mark.parametrize("kind", MEMBERS, ids=name_of)
def test_members(kind: Any) -> None:
    """Each public member has its row, with its signature if it is called; no row is left over."""
    documented = {one for cell in words(PAGE, f"member of `{kind.__name__}`") for one in cell.split("`, `")}
    expected = {_written(name, one) for name, one in public(kind).items()}

    assert documented == expected | MEMBERS[kind]


def _written(name: str, member: Any) -> str:
    if isinstance(member, classmethod):
        return f"{name}({', '.join(list(inspect.signature(member.__func__).parameters)[1:])})"
    return signature(name, member)


@pytest.mark.parametrize("heading", ENUMS)
def test_enums(heading: str) -> None:
    """Each value has its row, in order; no row is left over."""
    documented = {name: row[1] for name, row in words(PAGE, heading).items()}

    assert list(documented.items()) == [(one.name, f'`"{one.value}"`') for one in ENUMS[heading]]


@pytest.mark.parametrize("kind", testing.ErrorInjectionType, ids=lambda kind: kind.value)
def test_faults_of_types(kind: testing.ErrorInjectionType) -> None:
    """The row of each type names its fault, and what `parameters` may hold."""
    _, _, fault, parameters = words(PAGE, "injection type")[kind.name]
    made = configs.FAULTS[kind]

    assert re.findall(r"`(\w+)`", fault) == [made.__name__]
    assert re.findall(r"`(\w+)`", parameters) == list(inspect.signature(made).parameters)


def test_where_faults_happen() -> None:
    """The three places where a fault can happen are in the row of `source`."""
    (_, meaning) = words(PAGE, "member of `ErrorInjectionConfig`")["source"]

    assert re.findall(r'"([^"]+)"', meaning) == [configs.IN_PROCESS, configs.NETWORK, configs.HOOKS]


def test_timings() -> None:
    """The timings are those of the other page."""
    assert list(words(PAGE, "timing")) == list(words("testing.md", "timing"))


def test_interval() -> None:
    """What is known of a success rate is shown with its fields."""
    (_, meaning) = words(PAGE, "field of `RecoveryTestResult`")["success_interval"]

    assert f"Interval({', '.join(statistics.Interval._fields)})" in meaning


class Parser:
    """Stands where pytest's would, and notes the options that a plugin adds."""

    def __init__(self) -> None:
        self.defaults: dict[str, Any] = {}

    def getgroup(self, name: str, description: str) -> "Parser":
        return self

    def addoption(self, option: str, *, default: Any = None, **rest: Any) -> None:
        self.defaults[option] = default


def test_fixtures_of_the_plugin() -> None:
    """Each fixture has its row; no row is left over."""
    source = ast.parse(inspect.getsource(plugin))
    functions = [one for one in source.body if isinstance(one, ast.FunctionDef)]
    fixtures = {one.name for one in functions if any("fixture" in ast.unparse(mark) for mark in one.decorator_list)}

    assert set(words(PLUGIN, "fixture")) == {name for name in fixtures if not name.startswith("_")}


def test_members_of_chaos() -> None:
    """Each public member of the fixture `chaos` has its row, with its signature."""
    made = {name for name in vars(plugin.Chaos(1)) if not name.startswith("_")}

    assert set(words(PLUGIN, "member of `chaos`")) == made | {
        signature(name, one) for name, one in public(plugin.Chaos).items()
    }


def test_options_of_pytest() -> None:
    """Each option has its row, in order and with its default."""
    parser = Parser()
    plugin.pytest_addoption(parser)  # type: ignore[arg-type]
    documented = {option: row[2] for option, row in words(PLUGIN, "option of pytest").items()}

    assert list(documented.items()) == [
        (option, "none" if value is None else f"`{value}`") for option, value in parser.defaults.items()
    ]


def test_arguments_of_the_marker() -> None:
    """Each argument of the marker has its row, with its default, as `pytest --markers` lists it."""
    arguments = [f"{name}={row[2].strip('`')}" for name, row in words(PLUGIN, "argument of the marker").items()]

    assert f'"resilience({", ".join(arguments)}): ' in inspect.getsource(plugin.pytest_configure)


def test_environment_variables() -> None:
    """Both variables have their row."""
    assert set(words(PLUGIN, "variable")) == {seeds.VARIABLE, guard.VARIABLE}


def test_the_tests_of_the_guide_pass(tmp_path: Path) -> None:
    """What the guide says about pytest: its tests pass with the fixture, and leave reports in the folder."""
    file = tmp_path / "test_guide.py"
    blocks = [one.text for one in pages.read(pages.DOCS / "how-to" / "test-recovery.md")[0] if one.language == "python"]
    (ours,) = [number for number, text in enumerate(blocks) if "def test_" in text]
    file.write_text("\n".join(blocks[: ours + 1]), encoding="utf-8")
    # By name where the package is not installed, so that there is no entry point.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "resilient.testing.plugin",
        str(file),
    ]

    result = subprocess.run(  # noqa: S603 - our own tests
        [*command, "-p", "no:resilient", "--resilience-report", str(tmp_path / "reports")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(pages.ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "2 passed" in result.stdout, result.stdout + result.stderr
    suffixes = {".html", ".json", ".md", ".xml"}
    names = {one.name for one in (tmp_path / "reports").iterdir()}
    assert names == {
        f"test_guide.py_{test}.recovery{suffix}"
        for test in ("test_stock_comes_back", "test_everything")
        for suffix in suffixes
    }
