"""The pytest plugin: faults that are always taken away again, a seed that is always shown.

Loaded by pytest through the entry point `pytest11`; nothing else imports it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from resilient._registry import Registry, registry
from resilient.events import HUB
from resilient.testing import plugin_files, plugin_leaks, seeds

_SEED = pytest.StashKey[int]()
_TOLD = pytest.StashKey[list[dict[str, Any]]]()


#: The fixtures whose faults are drawn from a seed.
_INJECTING = frozenset({"chaos", "fault_proxy", "recovery"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("resilience", "faults injected by resilient.testing")
    seed = "seed of injected faults, or random, which is shown (default: RESILIENT_SEED, or else random)"
    group.addoption("--resilience-seed", default="random", metavar="N", help=seed)
    group.addoption(
        "--resilience-report",
        metavar="DIR",
        help="write what each test has injected, and what its recovery tests showed",
    )
    repeat = "run tests that are marked resilience, or inject by a fixture, N times, with other seeds"
    group.addoption("--resilience-repeat", type=int, default=1, metavar="N", help=repeat)


def pytest_configure(config: pytest.Config) -> None:
    """Settle the seed, and tell of the marker."""
    config.addinivalue_line(
        "markers",
        "resilience(seed=None, faults=()): inject faults, pairs of a target and a fault, during the test",
    )
    asked = config.getoption("--resilience-seed")
    if asked == "random":
        asked = os.environ.get(seeds.VARIABLE, "").strip() or asked
    if asked != "random" and not re.fullmatch(r"-?\d+", asked):
        raise pytest.UsageError(f"--resilience-seed={asked}: must be a whole number, or random")
    if config.getoption("--resilience-repeat") < 1:
        raise pytest.UsageError("--resilience-repeat: must be at least 1")
    config.stash[_SEED] = secrets.randbits(32) if asked == "random" else int(asked)
    # Workers of pytest-xdist get the options as they stand here: one run has one seed.
    config.option.resilience_seed = str(config.stash[_SEED])
    if config.option.resilience_report:
        config.option.resilience_report = plugin_files.prepared(config.option.resilience_report)
    config.pluginmanager.register(plugin_leaks.Leaks(), "resilience-leaks")


def pytest_report_header(config: pytest.Config) -> str:
    """Show the seed."""
    seed = config.stash[_SEED]
    return f"resilience seed: {seed} (the same faults again: --resilience-seed {seed})"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat tests that are marked, or use a fixture that injects."""
    times = metafunc.config.getoption("--resilience-repeat")
    uses = not _INJECTING.isdisjoint(metafunc.fixturenames)
    if times > 1 and (uses or any(metafunc.definition.iter_markers("resilience"))):
        metafunc.fixturenames.append("_resilience_round")
        metafunc.parametrize("_resilience_round", range(times))


@pytest.fixture
def _resilience_round() -> int:
    return 0


class Chaos:
    """Injects faults until the test ends; `seed` is the one of the test."""

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self.injections: list[Any] = []
        self._stack = ExitStack()

    def inject(self, target: Any, fault: Any, **options: Any) -> Any:
        """As `resilient.testing.inject`, from now on until the test ends; returns the injection."""
        from resilient.testing.injection import inject

        options.setdefault("seed", self.seed)
        injection = inject(target, fault, **options)
        injection.owned = True
        self._stack.enter_context(injection)
        self.injections.append(injection)
        return injection

    def proxy(self, host: str, port: int, **options: Any) -> Any:
        """A running `FaultProxy` in front of a service, until the test ends."""
        from resilient.testing.network.proxy import FaultProxy

        options.setdefault("seed", self.seed)
        made = FaultProxy(host, port, **options)
        made.owned = True
        return self._stack.enter_context(made)

    def close(self) -> None:
        """Take everything away."""
        self._stack.close()


def _seed_of(item: Any) -> int | str:
    given = (one.kwargs.get("seed") for one in item.iter_markers("resilience"))
    fixed = next((one for one in given if one is not None), None)
    if fixed is not None:
        turn = _turn(item)
        chosen: int | str = f"{fixed}:{turn}" if turn else fixed
        return chosen
    # With the test in it: otherwise all tests would draw the same pattern.
    return zlib.crc32(f"{item.config.stash[_SEED]}:{item.nodeid}".encode())


def _command(item: Any) -> str:
    times = item.config.getoption("--resilience-repeat")
    # Without it there are no rounds, and no test of this name.
    repeat = f" --resilience-repeat {times}" if _turn(item) is not None else ""
    return f"pytest {shlex.quote(item.nodeid)} --resilience-seed {item.config.stash[_SEED]}{repeat}"


def _turn(item: Any) -> int | None:
    """Which repetition of a marked test this is; None where it is not repeated."""
    turn: int | None = getattr(getattr(item, "callspec", None), "params", {}).get("_resilience_round")
    return turn


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let injections that were given no seed draw theirs from the test's, so that they can be had again."""
    HUB.flush()  # no test finds its log records held back for what another has logged
    with seeds.session(str(_seed_of(item)), _command(item)):
        return (yield)


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Iterator[Chaos]:
    """Inject faults with `chaos.inject(target, fault, ...)`; they are gone when the test ends."""
    made = Chaos(_seed_of(request.node))
    request.node.stash.setdefault(_TOLD, [])
    try:
        yield made
    finally:
        told = request.node.stash[_TOLD]
        told += [{"injection": repr(one), "calls": one.calls, "fired": one.fired} for one in made.injections]
        made.close()


@pytest.fixture(autouse=True)
def _resilience_marked(request: pytest.FixtureRequest) -> None:
    """Inject what the marker asks for."""
    markers = list(request.node.iter_markers("resilience"))
    if wrong := next((text for text in map(_wrong, markers) if text), None):
        pytest.fail(f"@pytest.mark.resilience: {wrong}", False)
    # Those of the module before those of the class, and the test's own last.
    for target, fault, *options in [entry for one in reversed(markers) for entry in one.kwargs.get("faults", ())]:
        request.getfixturevalue("chaos").inject(target, fault, **(options[0] if options else {}))


def _wrong(marker: pytest.Mark) -> str | None:
    """What is wrong with a marker: faults that are not injected would let a test pass that has tested nothing."""
    unknown = [*map(repr, marker.args), *(name for name in marker.kwargs if name not in ("seed", "faults"))]
    if unknown:
        return f"means nothing: {', '.join(unknown)}; it takes seed= and faults=, by their names"
    seed, faults = marker.kwargs.get("seed"), marker.kwargs.get("faults", ())
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, str))):
        return f"seed={seed!r}: must be a whole number or a text"
    if not isinstance(faults, (list, tuple)) or not all(map(_is_entry, faults)):
        return "faults: must be a list of pairs (target, fault), or triples with a mapping of options of inject"
    return None


def _is_entry(given: Any) -> bool:
    if not isinstance(given, (list, tuple)) or len(given) not in (2, 3):
        return False
    return len(given) == 2 or isinstance(given[2], Mapping)


@pytest.fixture
def virtual_clock() -> Iterator[Any]:
    """A `VirtualClock` in force during the test: `virtual_clock.advance(60)`."""
    from resilient.testing.clocks.virtual_clock import VirtualClock

    with VirtualClock() as clock:
        yield clock


@pytest.fixture
def fault_proxy(chaos: Chaos) -> Any:
    """Make running fault proxies: `proxy = fault_proxy("127.0.0.1", port)`."""
    return chaos.proxy


@pytest.fixture
def recovery(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A `RecoveryTestFramework` with the test's seed: `recovery.run(scenario).assert_ok()`, `await recovery.arun(...)`.

    What it has run is written into the folder of `--resilience-report`, as HTML, JSON, JUnit and Markdown.
    """
    from resilient.testing.recovery.framework import RecoveryTestFramework

    made = RecoveryTestFramework(seed=_seed_of(request.node))
    yield made
    folder, results = request.config.getoption("--resilience-report"), made.get_test_results()
    if folder and results:
        from resilient.testing.recovery.report import TestReport

        for suffix in ("html", "json", "xml", "md"):
            plugin_files.write(request.node, folder, f".recovery.{suffix}", TestReport(results).save)


@pytest.fixture
def resilient_registry() -> Iterator[Registry]:
    """An empty registry during the test."""
    with registry.scoped() as empty:
        yield empty


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Add to a failure how to see the same faults again."""
    report: Any = yield
    told = item.stash.get(_TOLD, None)
    if report.failed and (told is not None or seeds._made):
        lines = [_command(item), *(repr(one) for one in _injections(item))]
        report.sections.append(("resilience: the same faults again", "\n".join(lines)))
    folder = item.config.getoption("--resilience-report")
    if told is not None and report.when == "teardown" and folder:
        content = {"test": item.nodeid, "seed": item.config.stash[_SEED], "injections": told}
        text = json.dumps(content, indent=2) + "\n"
        plugin_files.write(item, folder, ".json", lambda path: path.write_text(text, "utf-8"))
    return report


def _injections(item: pytest.Item) -> list[Any]:
    made = getattr(item, "funcargs", {}).get("chaos")
    return [] if made is None else made.injections


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show the seed where the header, which has it, is not shown."""
    if config.option.verbose < 0 or config.option.no_header:
        terminalreporter.write_line(pytest_report_header(config))
