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
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from resilient._registry import Registry, registry
from resilient.testing import seeds

_SEED = pytest.StashKey[int]()
_TOLD = pytest.StashKey[list[dict[str, Any]]]()


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
    repeat = "run tests marked resilience N times, with other seeds"
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


def pytest_report_header(config: pytest.Config) -> str:
    """Show the seed."""
    seed = config.stash[_SEED]
    return f"resilience seed: {seed} (the same faults again: --resilience-seed {seed})"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat marked tests."""
    times = metafunc.config.getoption("--resilience-repeat")
    if times > 1 and any(metafunc.definition.iter_markers("resilience")):
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
        return self._stack.enter_context(FaultProxy(host, port, **options))

    def close(self) -> None:
        """Take everything away."""
        self._stack.close()


def _seed_of(item: Any) -> int | str:
    marker = item.get_closest_marker("resilience")
    fixed = None if marker is None else marker.kwargs.get("seed")
    if fixed is not None:
        turn = getattr(getattr(item, "callspec", None), "params", {}).get("_resilience_round", 0)
        chosen: int | str = f"{fixed}:{turn}" if turn else fixed
        return chosen
    # With the test in it: otherwise all tests would draw the same pattern.
    return zlib.crc32(f"{item.config.stash[_SEED]}:{item.nodeid}".encode())


def _command(item: Any) -> str:
    return f"pytest {shlex.quote(item.nodeid)} --resilience-seed {item.config.stash[_SEED]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let injections that were given no seed draw theirs from the test's, so that they can be had again."""
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
    marker = request.node.get_closest_marker("resilience")
    if marker is None or not marker.kwargs.get("faults"):
        return
    injector: Chaos = request.getfixturevalue("chaos")
    for entry in marker.kwargs["faults"]:
        target, fault, *options = entry
        injector.inject(target, fault, **(options[0] if options else {}))


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
            TestReport(results).save(Path(folder) / f"{_file_name(request.node)}.recovery.{suffix}")


@pytest.fixture
def resilient_registry() -> Iterator[Registry]:
    """An empty registry during the test."""
    with registry.scoped() as empty:
        yield empty


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that leaves a fault behind."""
    before = list(_active())
    try:
        yield
    finally:
        leaked = [one for one in _active() if one not in before and not one.owned]
        for one in leaked:
            one.remove()
    if leaked:
        pytest.fail(f"leak: the test has left {', '.join(map(repr, leaked))} in force; use it in a `with` block", False)


def _active() -> list[Any]:
    """The injections in force, where anybody has injected anything."""
    import sys

    injection = sys.modules.get("resilient.testing.injection")
    return [] if injection is None else list(injection.ACTIVE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Add to a failure how to see the same faults again."""
    report: Any = yield
    told = item.stash.get(_TOLD, None)
    if told is not None and report.when == "call" and report.failed:
        lines = [_command(item), *(repr(one) for one in _injections(item))]
        report.sections.append(("resilience: the same faults again", "\n".join(lines)))
    if told is not None and report.when == "teardown" and item.config.getoption("--resilience-report"):
        _write(item, told)
    return report


def _injections(item: pytest.Item) -> list[Any]:
    made = getattr(item, "funcargs", {}).get("chaos")
    return [] if made is None else made.injections


def _write(item: pytest.Item, told: list[dict[str, Any]]) -> None:
    folder = Path(item.config.getoption("--resilience-report"))
    folder.mkdir(parents=True, exist_ok=True)
    content = {"test": item.nodeid, "seed": item.config.stash[_SEED], "injections": told}
    (folder / f"{_file_name(item)}.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _file_name(item: Any) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", item.nodeid)
