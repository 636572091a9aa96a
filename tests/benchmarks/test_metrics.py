"""The benchmark of the metrics measures the right thing. No test here looks at a time."""

from prometheus_client import generate_latest

from resilient import registry
from resilient.meters import METERS

from . import loops, metrics
from .candidates import four


def test_what_is_installed_goes_again() -> None:
    """The loop runs with metrics on, and the one beside it without."""
    seen = []

    def loop(n: int) -> float:
        seen.append(METERS.on)
        return float(n)

    before = METERS.on
    METERS.on = False
    try:
        assert (metrics.watched(loop)(3), loop(4)) == (3, 4)
    finally:
        METERS.on = before
    assert seen == [True, False]


def test_a_thousand_policies() -> None:
    """The crowd has the policies that the row says, and each of its retries has been retried."""
    before = METERS.on
    try:
        with registry.scoped(), metrics.installed() as target:
            functions = metrics.crowd()
            assert sum(len(shelf) for shelf in registry.snapshot().values()) == metrics.POLICIES
            text = generate_latest(target).decode()
    finally:
        METERS.on = before
    attempts = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith("recovery_retry_attempts_t")]
    assert attempts == ["3.0"] * len(functions)


def test_the_crowd_answers() -> None:
    """The guarded function of the first row returns what it is given."""
    assert four()(loops.bare())(7) == 7
