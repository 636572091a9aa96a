"""The public door: complete, sorted, documented, and open under every way to start the interpreter."""

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import resilient

QUIET = ("demo", "cli", "__main__")


def modules():
    for info in pkgutil.walk_packages(resilient.__path__, "resilient."):
        if info.name.split(".")[1] not in QUIET:
            yield importlib.import_module(info.name)


MODULES = [resilient, *modules()]


def test_all_is_sorted():
    """`__all__` is in order and names nothing twice, in every package that has one."""
    for module in MODULES:
        names = list(getattr(module, "__all__", ()))
        assert names == sorted(set(names), key=lambda name: (not name.isupper(), name)), module.__name__


LAZY = {
    "CachedDegradation",
    "DegradableService",
    "DegradationConfig",
    "DegradationManager",
    "DegradationMode",
    "FallbackStrategy",
    "RecoveryStrategyConfig",
    "SmartTimeout",
    "TieredTimeout",
    "TimeoutTier",
    "failover",
}
"""What the door loads when it is asked for."""


def test_all_is_complete():
    """`__all__` names every public thing that the door shows, and nothing that is not there."""
    shown = LAZY | {
        name for name, thing in vars(resilient).items() if not name.startswith("_") and not inspect.ismodule(thing)
    }
    # A decorator hides the folder of the same name.
    assert shown | {"circuit_breaker", "bulkhead", "retry", "timeout", "degrade"} == set(resilient.__all__)


def documented():
    for module in MODULES:
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield f"{module.__name__}.{name}", thing


def test_modules_have_docstrings():
    """Every module says what it is for."""
    assert [module.__name__ for module in MODULES if not (module.__doc__ or "").strip()] == []


def methods(name, thing):
    for method, function in vars(thing).items() if inspect.isclass(thing) else ():
        if not method.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
            yield f"{name}.{method}", function


def test_public_things_have_docstrings():
    """Every class, function, method and property of the public door says what it is for."""
    door = {id(getattr(resilient, name)) for name in resilient.__all__}
    public = [(name, thing) for name, thing in documented() if id(thing) in door]
    assert len(public) > 20
    silent = [name for name, thing in public if not (thing.__doc__ or "").strip()]
    silent += [name for pair in public for name, method in methods(*pair) if not inspect.getdoc(method)]
    assert silent == []


def run_python(code, *options, **environment):
    """Run a piece of code in an interpreter of its own; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(Path(resilient.__file__).parents[1]), **environment}
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, *options, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SMOKE = """
import asyncio, functools, inspect, pickle
from resilient import bulkhead, circuit_breaker, degrade, registry, retry, timeout

calls = []

@degrade(fallback="spare")
@retry(base_delay=0)
@circuit_breaker("b", failure_threshold=3)
@bulkhead("h")
@timeout(5, name="t")
def work(x):
    "Doc."
    calls.append(x)
    raise ConnectionError

@circuit_breaker("c")
async def awork(x):
    return x

class Host:
    @retry
    def method(self):
        return self
    @classmethod
    @retry
    def of(cls):
        return cls
    @staticmethod
    @retry
    def plain():
        return 1

host = Host()
assert work(1) == "spare" and calls == [1, 1, 1]
assert asyncio.run(awork(2)) == 2 and inspect.iscoroutinefunction(awork)
assert host.method() is host and Host.of() is Host and Host.plain() == host.plain() == 1
assert work.__doc__ in ("Doc.", None) and work.__name__ == "work" and str(inspect.signature(work)) == "(x)"
assert pickle.loads(pickle.dumps(awork)) is awork
assert [policy.kind for policy in work.policies] == ["degrade", "retry", "circuit_breaker", "bulkhead", "timeout"]
assert degrade(fallback=1)(work).__wrapped__ is work.__wrapped__
assert retry(functools.partial(int, "7"))() == 7
with registry.disabled():
    try:
        work(1)
    except ConnectionError:
        print("fine")
"""


@pytest.mark.parametrize("options", [(), ("-O",), ("-OO",)], ids=["plain", "-O", "-OO"])
@pytest.mark.parametrize("extension", ["", "1"], ids=["with C", "without C"])
def test_other_interpreters(options, extension):
    """All decorators work without assertions and docstrings, and with wrapt's pure Python proxies."""
    environment = {"WRAPT_DISABLE_EXTENSIONS": extension} if extension else {}
    assert run_python(SMOKE, "-W", "error", *options, **environment) == "fine"


def test_wrapt_without_its_extension():
    """The variable that the test above sets really takes the extension away."""
    code = "import wrapt; print(wrapt.FunctionWrapper.__module__)"
    assert run_python(code, WRAPT_DISABLE_EXTENSIONS="1") != run_python(code)


def test_lazy_names():
    """What is loaded late is there all the same: as attribute, in `dir`, by `import *`, and by submodule."""
    code = f"""if True:
        import resilient
        names = {sorted(LAZY)!r}
        assert set(names) <= set(dir(resilient)) and not set(names) & set(vars(resilient))
        assert all(getattr(resilient, name) is not None for name in names)
        assert set(names) <= set(vars(resilient))
        everything = {{}}
        exec("from resilient import *", everything)
        assert set(resilient.__all__) <= set(everything)
        assert resilient.degradation.DegradationManager is resilient.DegradationManager
        assert resilient.strategies.failover is resilient.failover
        assert callable(resilient.timeout) and callable(resilient.degrade)
        try:
            resilient.nonsense
        except AttributeError as error:
            print(error)
    """
    assert run_python(code) == "module 'resilient' has no attribute 'nonsense'"


def test_import_is_light():
    """`import resilient` brings no demo, no command line, no asyncio debugger, no metrics and no tenacity."""
    code = "import sys, resilient; print(*sorted(name for name in sys.modules))"
    loaded = set(run_python(code).split())
    assert loaded.isdisjoint({"resilient.degradation", "resilient.strategies", "resilient.timeout.smart"})
    assert loaded.isdisjoint(
        {"resilient.demo", "resilient.cli", "tenacity", "prometheus_client", "cachetools", "argparse", "unittest"}
    )
