"""`timeout(method="signal")` used to leave its handler behind, and to stop a periodic timer of the program's own."""

import signal
import time

import pytest

from resilient import CallTimeoutError, timeout

from .helpers import outcome

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.fixture
def handler():
    """Install a handler of the program's own, which counts; no timer runs before and after."""
    rings = []

    def ring(number, frame):
        rings.append(number)

    ring.rings = rings
    before = signal.signal(signal.SIGALRM, ring)
    yield ring
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def check_restored(handler):
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("seconds", [0, 0.001])
def test_tiny_limit(handler, seconds):
    """A limit that passes before the call begins leaves handler and timer as they were."""

    @timeout(1e-6, method="signal")
    def work():
        if seconds:
            time.sleep(seconds)
        return "ok"

    for _ in range(50 if seconds else 500):
        result = outcome(work)
        assert result == "ok" or isinstance(result, CallTimeoutError)
        check_restored(handler)
    assert handler.rings == []


def test_limit_as_the_call_ends(handler):
    """A limit that passes about as the call ends leaves handler and timer as they were."""

    @timeout(0.0003, method="signal")
    def work(seconds):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return "ok"

    for number in range(500):
        result = outcome(work, 0.00022 + number * 2e-7)
        assert result == "ok" or isinstance(result, CallTimeoutError)
        check_restored(handler)
    assert handler.rings == []


def test_limits_within_limits(handler):
    """So do two of them around each other that pass about together."""
    inner = timeout(0.0003, method="signal")

    @timeout(0.0003, method="signal")
    def outer():
        return outcome(inner.call, time.sleep, 0.001)

    for _ in range(50):
        assert isinstance(outcome(outer), (CallTimeoutError, type(None)))
        check_restored(handler)
    assert handler.rings == []


@pytest.mark.parametrize("limit", [1, 10], ids=["shorter limit", "longer limit"])
def test_periodic_timer(handler, limit):
    """A periodic timer of the program's own goes on with its interval."""
    signal.setitimer(signal.ITIMER_REAL, 5, 4)
    assert timeout(limit, method="signal").call(lambda: "ok") == "ok"
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert 4 < left <= 5
    assert interval == 4
    assert signal.getsignal(signal.SIGALRM) is handler


def test_periodic_timer_after_a_timeout(handler):
    """The same when the limit has passed."""
    signal.setitimer(signal.ITIMER_REAL, 5, 4)
    with pytest.raises(CallTimeoutError):
        timeout(0.005, method="signal").call(time.sleep, 0.1)
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert 4 < left <= 5
    assert interval == 4
    assert signal.getsignal(signal.SIGALRM) is handler


def test_fast_periodic_timer(handler):
    """A fast periodic timer of the program's own rings on after a call."""
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    assert timeout(1, method="signal").call(lambda: "ok") == "ok"
    end = time.monotonic() + 2
    while len(handler.rings) < 3 and time.monotonic() < end:
        time.sleep(0.002)
    assert len(handler.rings) >= 3
