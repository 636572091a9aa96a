"""Floods of log records: the first ones are written, the others counted, and no count is lost."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest

from resilient import CircuitState, ConfigurationError, events, logs, registry
from resilient.logs import limits, log_event
from resilient.logs.limits import LIMITS, MOST_KEYS, OTHERS
from resilient.testing import VirtualClock

from .helpers import WAIT, in_threads


@pytest.fixture(autouse=True)
def limited():
    """Begin with one record per interval of ten seconds, and put the defaults back."""
    logs.configure(interval=10, burst=1)
    yield
    logs.configure(interval=limits.INTERVAL, burst=limits.BURST)


@pytest.fixture
def clock():
    """Give the tests a time that they move; without threads."""
    with VirtualClock() as virtual:
        yield virtual
        logs.flush()


def scheduled(name="n", attempt=1):
    """Log one failed attempt."""
    log_event(events.RetryScheduled(name, attempt, 0.5, ConnectionError("gone")))


def opened():
    """Log the opening of a breaker."""
    log_event(events.CircuitStateChanged("b", CircuitState.CLOSED, CircuitState.OPEN, "failures", 1.0))


def seen(caplog):
    """Return of each record the event, the policy and how many it stands for besides."""
    return [(record.event, record.policy, record.suppressed) for record in caplog.records]


def told(caplog, policy="n"):
    """Return how many failed attempts of a policy the log knows of, written and counted."""
    counts = [one.suppressed for one in caplog.records if (one.event, one.policy) == ("retry.scheduled", policy)]
    return sum(counts) + counts.count(0)


def hold_back():
    """Log until something is held back, however slow the machine is; return how often."""
    for logged in range(1, 10_000):
        scheduled()
        if any(window.held for window in list(LIMITS._windows.values())):
            return logged
    raise AssertionError("nothing is held back")


def counters():
    """Return the threads that wait to write counts."""
    return [one for one in threading.enumerate() if one.name == "resilient-log-counts"]


def eventually(condition):
    """Wait until a condition holds, for a bounded time."""
    end = time.monotonic() + WAIT
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def test_first_then_a_count(clock, caplog):
    """Of a flood the first record is written, and after the interval one that says how many more there were."""
    for number in range(1235):
        scheduled(attempt=number)
    assert seen(caplog) == [("retry.scheduled", "n", 0)]
    clock.advance(10)
    scheduled()
    assert seen(caplog)[1:] == [("retry.scheduled", "n", 1234), ("retry.scheduled", "n", 0)]
    counted = caplog.records[1]
    assert counted.getMessage() == "n: retry.scheduled: and 1,234 more like it in the last 10 s"
    assert (counted.name, counted.levelname, counted.kind) == ("resilient.retry", "WARNING", "retry")


def test_count_has_the_fields(clock, caplog):
    """The record of a count has the attributes of those it stands for, so that no format string breaks."""
    scheduled()
    scheduled()
    logs.flush()
    first, counted = caplog.records
    assert set(vars(first)) == set(vars(counted))
    assert (counted.attempt, counted.delay, counted.error) == (None, None, None)


def test_burst(clock, caplog):
    """`burst` records of an interval are written before the rest is counted, and again in the next interval."""
    logs.configure(burst=3)
    for _ in range(5):
        scheduled()
    clock.advance(10)
    for _ in range(3):
        scheduled()
    assert [count for _, _, count in seen(caplog)] == [0, 0, 0, 2, 0, 0, 0]


def test_apart(clock, caplog):
    """Events, kinds and policies are counted each for itself."""
    for _ in range(3):
        scheduled("a")
        scheduled("b")
        log_event(events.FallbackFailed("a", ConnectionError()))
    logs.flush()
    assert seen(caplog)[3:] == [
        ("retry.scheduled", "a", 2),
        ("retry.scheduled", "b", 2),
        ("degrade.fallback_failed", "a", 2),
    ]


def test_kinds_apart(clock, caplog):
    """A bulkhead and a breaker of one name do not hold back each other's records."""
    caplog.set_level(logging.DEBUG, "resilient")
    for kind in ("bulkhead", "circuit_breaker"):
        log_event(events.CallRejected("n", kind, "why"))
    assert [record.kind for record in caplog.records] == ["bulkhead", "circuit_breaker"]


def test_no_change_is_lost(clock, caplog):
    """Changes of state and of configuration are always written, however many."""
    caplog.set_level(logging.INFO, "resilient")
    for _ in range(50):
        opened()
        log_event(events.ConfigurationChanged("n", "retry", {"max_attempts": 5}))
    assert seen(caplog) == [("circuit_breaker.state_changed", "b", 0), ("configuration.changed", "n", 0)] * 50


def test_failures_are_limited(clock, caplog):
    """A handler that raises for each event of a flood does not flood the log with its tracebacks."""
    with registry.subscribe(lambda event: 1 / 0, events.RetrySucceeded):
        for _ in range(10):
            events.HUB.publish(events.RetrySucceeded("n", 2))
    logs.flush()
    assert seen(caplog) == [("events.handler_failed", "n", 0), ("events.handler_failed", "n", 9)]
    assert caplog.records[1].exc_info is None


def test_any_record_brings_the_counts(clock, caplog):
    """A count that is due is written before the next record, whatever that is about."""
    scheduled()
    scheduled()
    clock.advance(9.999)
    opened()
    clock.advance(0.001)
    opened()
    assert seen(caplog) == [
        ("retry.scheduled", "n", 0),
        ("circuit_breaker.state_changed", "b", 0),
        ("retry.scheduled", "n", 1),
        ("circuit_breaker.state_changed", "b", 0),
    ]


def test_nothing_held_back_nothing_counted(clock, caplog):
    """Where the limit was not reached, there is no record of a count."""
    scheduled()
    clock.advance(10)
    logs.flush()
    assert seen(caplog) == [("retry.scheduled", "n", 0)]


def test_count_without_another_record(caplog):
    """A count is written when its interval is over, though nothing else is logged; the thread for that ends."""
    logs.configure(interval=0.05)
    logged = hold_back()
    assert len(counters()) <= 1
    eventually(lambda: told(caplog) == logged)
    assert seen(caplog)[-1][2] > 0
    eventually(lambda: counters() == [])


def test_no_thread_without_need(caplog):
    """Where nothing is held back no thread is started, nor under a clock that only a test moves."""
    scheduled()
    assert counters() == []
    with VirtualClock():
        scheduled()
        scheduled()
        assert counters() == []


def test_thread_ends_with_what_it_waits_for(caplog):
    """`flush` writes the count at once, and the thread that waited for the end of the interval ends."""
    scheduled()
    scheduled()
    (counter,) = counters()
    logs.flush()
    assert [count for _, _, count in seen(caplog)] == [0, 1]
    counter.join(WAIT)
    assert not counter.is_alive()


def test_virtual_time_put_back(caplog):
    """What was held back in years of virtual time is counted in real time, and nothing is held back for years."""
    with VirtualClock() as clock:
        clock.advance(1e8)
        scheduled()
        scheduled()
    scheduled()
    assert [count for _, _, count in seen(caplog)] == [0, 1, 0]


def test_thread_under_a_virtual_clock(caplog):
    """A thread that waits for the end of an interval when a test puts a clock in force ends, and its count stays."""
    logs.configure(interval=0.2)
    logged = hold_back()
    with VirtualClock() as clock:
        eventually(lambda: counters() == [])
        clock.advance(1)
        opened()
    assert told(caplog) == logged


def test_threads_lose_no_count(caplog):
    """Whatever the threads, what is written and what is counted is together what happened."""
    logs.configure(interval=0.02, burst=2)

    def flood():
        for _ in range(2_000):
            scheduled()

    in_threads(*[flood] * 8)
    logs.flush()
    eventually(lambda: told(caplog) == 16_000)
    assert len(caplog.records) < 16_000


class Calling(logging.Handler):
    """A handler in which something is logged, by this thread and by another one that it waits for."""

    def __init__(self):
        super().__init__()
        self.inside = False
        self.waited = []

    def handle(self, record):
        """Log, without the lock that handlers have of their own."""
        if self.inside:
            return
        self.inside = True
        scheduled("inner")
        other = threading.Thread(target=scheduled, args=("other",), daemon=True)
        other.start()
        other.join(WAIT)
        self.waited.append(not other.is_alive())
        self.inside = False


def test_handlers_run_outside_the_lock(clock):
    """A handler may wait for a thread that logs, also while counts are written."""
    handler = Calling()
    logging.getLogger("resilient.retry").addHandler(handler)
    try:
        scheduled()
        scheduled()
        clock.advance(10)
        scheduled()
    finally:
        logging.getLogger("resilient.retry").removeHandler(handler)
    assert handler.waited
    assert all(handler.waited)


class Broken(logging.Handler):
    """A handler that raises for counts."""

    def emit(self, record):
        """Raise, unless the record is an ordinary one."""
        if record.suppressed:
            raise RuntimeError


def test_broken_handler(clock, caplog):
    """A handler that raises at a count keeps neither the other counts nor the record from being written."""
    scheduled("a")
    scheduled("a")
    scheduled("b")
    scheduled("b")
    clock.advance(10)
    logger, handler = logging.getLogger("resilient.retry"), Broken()
    logger.addHandler(handler)
    try:
        scheduled("c")
    finally:
        logger.removeHandler(handler)
    # The handler of the root comes after the broken one, so it has not seen the counts.
    assert seen(caplog)[2:] == [("retry.scheduled", "c", 0)]


def test_bounded(clock, caplog):
    """However many names there are, only so many are counted each for itself; the others are counted together."""
    for number in range(MOST_KEYS + 50):
        scheduled(f"n{number}")
    assert len(LIMITS._windows) == MOST_KEYS + 1
    assert len(caplog.records) == MOST_KEYS + 1
    logs.flush()
    assert seen(caplog)[-1] == ("retry.scheduled", OTHERS, 49)
    assert LIMITS._windows == {}


def test_nobody_reads(caplog):
    """Without a handler nothing is counted, and no thread started."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        scheduled()
        scheduled()
    finally:
        root.handlers = before
    assert LIMITS._windows == {}
    assert counters() == []


def test_switched_off(caplog):
    """With `interval=0` every record is written."""
    logs.configure(interval=0)
    for _ in range(30):
        scheduled()
    assert seen(caplog) == [("retry.scheduled", "n", 0)] * 30


def test_configure_writes_counts_and_keeps_the_rest(clock, caplog):
    """A change of the limits writes what they held back, and leaves alone what it does not name."""
    scheduled()
    scheduled()
    logs.configure(interval=timedelta(minutes=1))
    assert [count for _, _, count in seen(caplog)] == [0, 1]
    assert (LIMITS.interval, LIMITS.burst) == (60.0, 1)
    logs.configure(burst=7)
    assert (LIMITS.interval, LIMITS.burst) == (60.0, 7)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"interval": -1}, "interval=-1"),
        ({"interval": "10"}, "interval='10'"),
        ({"interval": float("nan")}, "interval=nan"),
        ({"burst": 0}, "burst=0"),
        ({"burst": True}, "burst=True"),
        ({"interval": 5, "burst": 1.5}, "burst=1.5"),
    ],
)
def test_bad_limits(options, named):
    """An impossible limit is refused with its name and value, and changes nothing."""
    with pytest.raises(ConfigurationError, match=named):
        logs.configure(**options)
    assert (LIMITS.interval, LIMITS.burst) == (10.0, 1)


def test_scopes_begin_anew(caplog):
    """A scope of the registry begins with nothing held back, and leaves nothing behind."""
    for _ in range(2):
        with registry.scoped():
            scheduled()
            scheduled()
    assert [count for _, _, count in seen(caplog)] == [0, 1, 0, 1]
    assert LIMITS._windows == {}


def run_alone(program):
    """Run a program in a process of its own; return what it logs, a line each."""
    head = """
import logging, os, sys
logging.basicConfig(stream=sys.stdout, format="%(process)d %(event)s %(policy)s %(suppressed)s")
from resilient import events
from resilient.logs import log_event
def scheduled():
    log_event(events.RetryScheduled("n", 1, 0.5, ConnectionError("gone")))
"""
    # Of a fork beside threads, newer versions warn, as they should.
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", head + program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_at_the_end():
    """What is held back when the process ends is written, and the process ends at once."""
    begun = time.monotonic()
    lines = run_alone("for _ in range(12): scheduled()")
    assert [line.split()[1:] for line in lines] == [["retry.scheduled", "n", count] for count in [*"00000", "7"]]
    assert time.monotonic() - begun < 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked():
    """A forked child counts for itself: what its parent holds back is written once, and its lock is free."""
    lines = run_alone("""
import threading
for _ in range(12): scheduled()
from resilient.logs.limits import LIMITS
held, forked = threading.Event(), threading.Event()
def hold():
    with LIMITS._lock:
        held.set()
        forked.wait(20)
threading.Thread(target=hold, daemon=True).start()
held.wait(20)
sys.stdout.flush()
child = os.fork()
if child == 0:
    scheduled()
    from resilient import logs
    logs.flush()
    sys.stdout.flush()
    os._exit(0)
forked.set()
os.waitpid(child, 0)
""")
    parents = lines[0].split()[0]
    assert sorted(line.split()[3] for line in lines if line.split()[0] == parents) == [*"00000", "7"]
    assert [line.split()[3] for line in lines if line.split()[0] != parents] == ["0"]


def test_signal_handlers_may_log(caplog):
    """A signal handler that logs while its own thread is at the counts waits for nothing, and no count is lost."""
    logs.configure(interval=0.01)
    logged = {"n": 0, "signal": 0}

    def log(name):
        scheduled(name)
        logged[name] += 1

    before = signal.signal(signal.SIGALRM, lambda *_: log("signal"))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        end = time.monotonic() + 0.15
        while time.monotonic() < end:
            log("n")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    logs.flush()
    eventually(lambda: {name: told(caplog, name) for name in logged} == logged)
    assert min(logged.values()) > 0
    assert LIMITS._windows == {}
