"""Faults stay out of production: refused there unless meant, and nothing of them is imported by the package."""

import subprocess
import sys

import pytest

from resilient import ResilienceError, circuit_breaker
from resilient.testing import InjectionRefusedError, faults, inject
from resilient.testing.injection import ACTIVE


@pytest.mark.parametrize("value", ["production", "Production", " PRODUCTION "])
def test_refused_in_production(monkeypatch, value):
    """Where the environment says production nothing is injected, and the message says what would allow it."""
    monkeypatch.setenv("RESILIENT_ENV", value)
    target = circuit_breaker()(lambda: "answer")
    injection = inject(target, faults.NetworkFailure())
    with pytest.raises(InjectionRefusedError, match="allow_in_production=True"), injection:
        pass
    assert ACTIVE == []
    assert target() == "answer"
    assert issubclass(InjectionRefusedError, ResilienceError)


@pytest.mark.parametrize("value", ["", "staging", "test"])
def test_elsewhere_allowed(monkeypatch, value):
    """Any other environment is no production."""
    monkeypatch.setenv("RESILIENT_ENV", value)
    target = circuit_breaker()(lambda: "answer")
    with inject(target, faults.NetworkFailure()), pytest.raises(ConnectionRefusedError):
        target()


def test_allowed_when_meant(monkeypatch):
    """`allow_in_production=True` injects all the same."""
    monkeypatch.setenv("RESILIENT_ENV", "production")
    target = circuit_breaker()(lambda: "answer")
    with inject(target, faults.NetworkFailure(), allow_in_production=True), pytest.raises(ConnectionRefusedError):
        target()


def test_truth_is_not_enough(monkeypatch):
    """What is merely true, such as the text of a setting, allows nothing in production."""
    monkeypatch.setenv("RESILIENT_ENV", "production")
    with pytest.raises(InjectionRefusedError), inject("json:dumps", faults.Latency(0), allow_in_production="false"):
        pass


def test_not_imported_by_the_package():
    """`import resilient`, its rooms and a guarded call import nothing of `resilient.testing`."""
    code = (
        "import sys, resilient, resilient.degradation, resilient.strategies, resilient.orchestrator\n"
        "assert resilient.retry(lambda: 1)() == 1\n"
        "print([name for name in sys.modules if name.startswith('resilient.testing')])"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own
    assert (result.stdout, result.stderr) == ("[]\n", "")
