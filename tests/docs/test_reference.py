"""The reference names what the package has: every option with its default, every event, error and number."""

import dataclasses
import enum
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import resilient
from resilient import degradation, errors, events, orchestrator, strategies
from resilient.degradation import queues, tiered
from resilient.strategies import patterns, settings
from resilient.strategies.failover import FailoverMetrics

from . import pages

REFERENCE = pages.DOCS / "reference"
DECORATORS = {
    "retry.md": resilient.retry,
    "circuit-breaker.md": resilient.circuit_breaker,
    "bulkhead.md": resilient.bulkhead,
    "timeout.md": resilient.timeout,
    "degrade.md": resilient.degrade,
}
POLICIES = {
    "retry.md": resilient.RetryPolicy,
    "circuit-breaker.md": resilient.CircuitBreaker,
    "bulkhead.md": resilient.Bulkhead,
    "timeout.md": resilient.Timeout,
    "degrade.md": resilient.Degradation,
}

#: What takes options without being a decorator, by page and by what the heading says: "option of ...".
OPTIONS: dict[tuple[str, str], Any] = {
    ("degradation.md", "DegradationConfig"): degradation.DegradationConfig,
    ("degradation.md", "CachedDegradation"): degradation.CachedDegradation,
    ("tiered-timeout.md", "TieredTimeout"): tiered.TieredTimeout,
    ("tiered-timeout.md", "TimeoutTier"): tiered.TimeoutTier,
    ("tiered-timeout.md", "MemoryQueue"): queues.MemoryQueue,
    ("tiered-timeout.md", "DurableQueue"): queues.DurableQueue,
    ("strategies.md", "retry"): settings.RetrySettings,
    ("strategies.md", "circuit_breaker"): settings.CircuitBreakerSettings,
    ("strategies.md", "degradation"): settings.DegradationSettings,
    ("strategies.md", "timeout"): settings.TimeoutSettings,
    ("strategies.md", "bulkhead"): settings.BulkheadSettings,
    ("strategies.md", "failover"): resilient.failover,
}
#: Named tuples, by page; their tables are headed "field of ...".
FIELDS: list[tuple[str, Any]] = [
    ("degradation.md", degradation.ManagerMetrics),
    ("degradation.md", degradation.ServiceHealth),
    ("degradation.md", degradation.CacheMetrics),
    ("degradation.md", degradation.PreloadResult),
    ("tiered-timeout.md", tiered.TierMetrics),
    ("strategies.md", strategies.Report),
    ("strategies.md", strategies.Change),
    ("strategies.md", FailoverMetrics),
    ("strategies.md", patterns.Recommendation),
]
#: Enumerations, by page and first heading of their tables.
MEMBERS: dict[tuple[str, str], type[enum.Enum]] = {
    ("degradation.md", "mode"): degradation.DegradationMode,
    ("tiered-timeout.md", "strategy"): tiered.FallbackStrategy,
}
PAGES_WITH_EVENTS = ["events.md", "degradation.md", "tiered-timeout.md", "strategies.md", "orchestrator.md"]


def tables(page: Path) -> list[list[list[str]]]:
    """The tables of a page as rows of cells, the heading first."""
    found: list[list[list[str]]] = [[]]
    for line in pages.read(page)[1].splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [rows for rows in found if rows]


def words(page: str, heading: str) -> dict[str, list[str]]:
    """First cell -> row, of the table whose heading begins with `heading`; code marks left out of the first cell."""
    rows = next(rows for rows in tables(REFERENCE / page) if rows[0][0] == heading)
    return {row[0].strip("`"): row for row in rows[2:]}


def options(decorator: object) -> dict[str, object]:
    """The keyword options of a decorator with their defaults, wherever it keeps them."""
    sources = [inspect.signature(overload) for overload in _overloads(decorator)]
    parameters = max((source.parameters for source in sources), key=len)
    return {
        name: parameter.default for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY
    }


def _overloads(decorator: object) -> list[object]:
    from typing import get_overloads

    return [decorator, *get_overloads(decorator)]  # type: ignore[arg-type]


@pytest.mark.parametrize("page", DECORATORS)
def test_options(page: str) -> None:
    """Each option of a decorator has its row, with its default; no row is left over."""
    documented = words(page, "parameter")
    expected = options(DECORATORS[page])

    assert set(documented) - {"limit"} == set(expected)
    for name, default in expected.items():
        shown = "none" if default is ... else f'`"{default}"`' if isinstance(default, str) else _code(default)
        assert documented[name][2] == shown, name


def _code(default: object) -> str:
    return f"`{default.__name__}`" if isinstance(default, type) else f"`{default!r}`"


@pytest.mark.parametrize("page", POLICIES)
def test_metrics(page: str) -> None:
    """Each number of a policy's metrics has its row."""
    policy = DECORATORS[page](1) if page == "timeout.md" else DECORATORS[page](**_needed(page))
    fields = policy.get_metrics()._fields
    rows = {
        row[0].strip("`") for table in tables(REFERENCE / page) if table[0][0].startswith("field of") for row in table
    }

    assert set(fields) <= rows


def _needed(page: str) -> dict[str, object]:
    return {"fallback": None} if page == "degrade.md" else {}


@pytest.mark.parametrize("page", POLICIES)
def test_configuration_names_are_the_options(page: str) -> None:
    """`registry.configure` takes the names that the reference lists."""
    policy = DECORATORS[page](1) if page == "timeout.md" else DECORATORS[page](**_needed(page))
    names = {field.name for field in dataclasses.fields(policy.config)}

    assert names == set(words(page, "parameter")) - {"name"}


@pytest.mark.parametrize(("page", "what"), OPTIONS, ids=[" ".join(key) for key in OPTIONS])
def test_further_options(page: str, what: str) -> None:
    """Each option has its row, with its default; no row is left over."""
    parameters = inspect.signature(OPTIONS[page, what]).parameters.values()
    expected = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.name != "open_store"  # of DurableQueue, and given by what is derived from it
    }
    documented = words(page, f"option of `{what}`")
    column = next(rows[0].index("default") for rows in tables(REFERENCE / page) if rows[0][0] == f"option of `{what}`")

    assert list(documented) == list(expected)
    for name, default in expected.items():
        assert documented[name][column] == _default(default), name


def _default(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    if default is ... or default is tiered.MISSING:
        return "none"
    if isinstance(default, enum.Enum):
        return f"`{default}`"
    return f'`"{default}"`' if isinstance(default, str) else _code(default)


@pytest.mark.parametrize("section", strategies.config.SECTIONS)
def test_options_of_files(section: str) -> None:
    """The reference says which options a file can write."""
    documented = words("strategies.md", f"option of `{section}`")

    assert {name for name, row in documented.items() if row[2] == "yes"} == set(strategies.models.file_options(section))


@pytest.mark.parametrize(("page", "kind"), FIELDS, ids=lambda value: getattr(value, "__name__", value))
def test_further_metrics(page: str, kind: Any) -> None:
    """Each number has its row, in order; no row is left over."""
    assert tuple(words(page, f"field of `{kind.__name__}`")) == kind._fields


@pytest.mark.parametrize(("page", "heading"), MEMBERS, ids=[page for page, _ in MEMBERS])
def test_members(page: str, heading: str) -> None:
    """Each member of an enumeration has its row, with its value."""
    documented = {name: row[1] for name, row in words(page, heading).items()}

    assert documented == {one.name: f'`"{one.value}"`' for one in MEMBERS[page, heading]}


def test_shipped_tiers() -> None:
    """The tiers that are there from the start, with their numbers."""
    documented = {(name, *row[1:]) for name, row in words("tiered-timeout.md", "shipped tier").items()}

    assert documented == {tuple(map(str, dataclasses.astuple(tier))) for tier in tiered.SHIPPED}


def test_presets() -> None:
    """Where a preset differs from a strategy without options, its row says so, with the value."""
    rows = next(rows for rows in tables(REFERENCE / "strategies.md") if rows[0][0] == "preset")
    documented: dict[tuple[str, str, str], str] = {}
    for preset, section, options, values in rows[2:]:
        pairs = zip(_coded(options), _coded(values), strict=True)
        documented |= {(preset.strip("`"), section.strip("`"), option): value for option, value in pairs}

    plain = resilient.RecoveryStrategyConfig()
    for preset in ("for_database", "for_external_api", "for_cache"):
        strategy = getattr(resilient.RecoveryStrategyConfig, preset)()
        for section in strategies.config.SECTIONS:
            for option in dataclasses.fields(getattr(strategy, section)):
                value = getattr(getattr(strategy, section), option.name)
                shown = documented.pop((preset, section, option.name), None)
                if shown is not None or value != getattr(getattr(plain, section), option.name):
                    assert shown == repr(value), (preset, section, option.name)
    assert documented == {}


def test_ready_strategies() -> None:
    """Each strategy of the guide has its row, with its options and their defaults."""
    documented = {name: _coded(row[2]) for name, row in words("strategies.md", "ready strategy").items()}

    assert list(documented) == [row.strategy.__name__ for row in patterns.GUIDE]
    for row in patterns.GUIDE:
        parameters = inspect.signature(row.strategy).parameters.values()
        expected = [_option(one) for one in parameters if one.kind is one.KEYWORD_ONLY]
        assert documented[row.strategy.__name__] == expected


def _coded(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _option(parameter: inspect.Parameter) -> str:
    default = parameter.default
    if default is parameter.empty:
        return parameter.name
    if isinstance(default, tuple):
        return f"{parameter.name}=({', '.join(kind.__name__ for kind in default)})"
    return f"{parameter.name}={default.__name__ if isinstance(default, type) else repr(default)}"


def test_guide() -> None:
    """The page that helps to choose has the rows of the guide, each with an example under a heading of its own."""
    page = pages.DOCS / "how-to" / "choose-patterns.md"
    rows = next(rows for rows in tables(page) if rows[0][0] == "kind of error")
    examples = "\n".join(block.text for block in pages.read(page)[0])

    assert [row[:4] for row in rows[2:]] == [
        [row.problem, ", ".join(row.patterns), row.when, row.caution] for row in patterns.GUIDE
    ]
    for shown, row in zip(rows[2:], patterns.GUIDE, strict=True):
        name, anchor = row.strategy.__name__, row.problem.lower().replace(" ", "-")
        assert shown[4] == f"[`{name}`](#{anchor})"
        assert anchor in pages.anchors(page)
        assert f"from resilient.strategies.patterns import {name}\n" in examples
        assert f"{name}(" in examples


def test_extras() -> None:
    """The index says what can be installed besides."""
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = next(rows for rows in tables(pages.DOCS / "index.md") if rows[0][0] == "extra")
    documented = {row[0].strip("`"): row[1] for row in rows[2:]}
    needed = project["optional-dependencies"]
    (everything,) = needed.pop("all")

    assert _coded(documented.pop("all")) == re.findall(r"\w+", everything.partition("[")[2])
    assert documented == {
        extra: ", ".join(re.split(r"[><=]", one)[0] for one in wanted) for extra, wanted in needed.items()
    }


def test_events() -> None:
    """Each event has its row with its fields, on one of the pages."""
    kinds = {kind.__name__: kind for kind in events.Event.kinds if kind.__module__.split(".")[0] == "resilient"}
    pairs = [(name, row) for page in PAGES_WITH_EVENTS for name, row in words(page, "event").items()]
    documented = dict(pairs)

    assert len(documented) == len(pairs), "an event is documented twice"
    assert set(documented) == set(kinds)
    for name, kind in kinds.items():
        assert set(re.findall(r"`(\w+)`", documented[name][1])) == set(kind.__slots__), name


def test_errors() -> None:
    """Each error has its row, with its bases and whether it is retryable."""
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.ResilienceError)
    }
    kinds["QueueFullError"] = queues.QueueFullError
    documented = words("errors.md", "error") | words("errors.md", "error of `resilient.degradation`")

    assert set(documented) == set(kinds)
    for name, kind in kinds.items():
        _, bases, _, data, retryable = documented[name]
        assert re.findall(r"`(\w+)`", bases) == [base.__name__ for base in kind.__bases__], name
        assert retryable == ("yes" if kind.retryable else "no"), name
        assert set(re.findall(r"`(\w+)`", data)) <= set(inspect.signature(kind.__init__).parameters), name


def test_every_public_name_is_documented() -> None:
    """What `from resilient import ...` offers can be found in the reference."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))

    rooms = (resilient, degradation, queues, strategies, patterns, orchestrator)
    names = [name for room in rooms for name in room.__all__]
    assert [name for name in names if not re.search(rf"`?\b{name}\b", text)] == []
