"""SmartTimeout alone: options, the limit it follows, its statistics, the load."""

import itertools
import logging
import math
import os
import random
import sys
import threading
from collections import deque
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import ConfigurationError, registry, timeout
from resilient.clock import CLOCK
from resilient.timeout.smart import ResponseTimes, SmartTimeout

SHARES = {"p50": Fraction(1, 2), "p90": Fraction(9, 10), "p95": Fraction(19, 20), "p99": Fraction(99, 100)}
STATISTICS = ["mean", *SHARES]


class Time:
    """A clock that only moves when told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds, /):
        self.now += seconds

    async def asleep(self, seconds, /):
        self.now += seconds


@pytest.fixture
def time():
    source = Time()
    with CLOCK.use(source):
        yield source


def usual(times, statistic):
    """The model: nearest rank by sorting, or the mean."""
    if statistic == "mean":
        return math.fsum(times) / len(times)
    return sorted(times)[math.ceil(SHARES[statistic] * len(times)) - 1]


# Options

NOT_POSITIVE = [0, -1, math.nan, math.inf, True, "1", [1], None, 10**400, timedelta(0), timedelta(seconds=-1)]
BAD = [
    *((option, value) for option in ("base_timeout", "min_timeout", "max_timeout") for value in NOT_POSITIVE),
    *(("adaptive_factor", value) for value in [0, -1, 0.0, math.nan, math.inf, True, "2", None, 10**400]),
    *(("window_size", value) for value in [0, -1, 1.5, True, "5", None, math.inf]),
    *(("statistic", value) for value in ["median", "p42", "", None, 0.95, ["mean"]]),
    ("load_source", "cpu"),
]


@pytest.mark.parametrize(("option", "value"), BAD, ids=lambda thing: str(thing)[:30])
def test_bad_values(option, value):
    """A value that cannot work is a ConfigurationError that names the option, the value, and what would do."""
    with pytest.raises(ConfigurationError) as caught:
        SmartTimeout(**{"base_timeout": 1, option: value})
    shown = value.total_seconds() if isinstance(value, timedelta) else value
    start = f"{option}={shown!r}: "
    assert str(caught.value).startswith(start)
    assert "must" in str(caught.value)[len(start) :]


def test_bounds_the_wrong_way_round():
    """A least limit above the greatest is refused, with both numbers."""
    with pytest.raises(ConfigurationError, match=r"^min_timeout=40: .*max_timeout=30"):
        SmartTimeout(2, min_timeout=40)
    assert SmartTimeout(2, min_timeout=3, max_timeout=3).current_limit() == 3


@pytest.mark.parametrize("value", [3, [1], object()], ids=["number", "list", "object"])
def test_load_sources_of_another_type(value):
    """A load source that cannot be asked is refused, by name and value."""
    with pytest.raises((TypeError, ConfigurationError)) as caught:
        SmartTimeout(1, load_source=value)
    assert str(caught.value).startswith(f"load_source={value!r}: ")


def test_base_is_required():
    """There is no base that suits every call; an unknown option is a TypeError that names it."""
    with pytest.raises(TypeError, match="base_timeout"):
        SmartTimeout()
    with pytest.raises(TypeError, match="percentile"):
        SmartTimeout(1, percentile=95)


def test_defaults():
    """The defaults are the specification's."""
    smart = SmartTimeout(base_timeout=2)
    assert (smart.min_timeout, smart.max_timeout, smart.adaptive_factor) == (0.1, 30, 2)
    assert (smart.window_size, smart.statistic) == (100, "mean")
    assert "base_timeout=2" in repr(smart)


def test_durations_as_timedelta():
    """Every duration may be a timedelta."""
    smart = SmartTimeout(timedelta(seconds=2), timedelta(milliseconds=200), timedelta(seconds=3))
    assert (smart.base_timeout, smart.min_timeout, smart.max_timeout) == (2, 0.2, 3)
    assert smart.current_limit() == 3


def test_class_in_place_of_an_object():
    """`timeout(SmartTimeout)` is refused at decoration."""
    with pytest.raises(TypeError):
        timeout(SmartTimeout)


# The limit


@pytest.mark.parametrize("statistic", STATISTICS)
def test_limit_before_the_first_answer(statistic):
    """With nothing seen, the usual is `base_timeout`, and the statistics say so."""
    smart = SmartTimeout(3, statistic=statistic)
    assert smart.current_limit() == 6
    stats = smart.get_stats()
    assert stats == (3, 0, 0, 0, 0)
    assert stats._fields == (
        "avg_response_time",
        "min_response_time",
        "max_response_time",
        "timeout_count",
        "current_load",
    )


@pytest.mark.parametrize(("base", "limit"), [(0.01, 0.1), (0.05, 0.1), (5, 10), (15, 30), (100, 30)])
def test_limit_is_clamped(base, limit):
    """The limit stays within `min_timeout` and `max_timeout`, at the start as later."""
    smart = SmartTimeout(base)
    assert smart.current_limit() == limit
    smart.record(base)
    assert smart.current_limit() == pytest.approx(limit)


@pytest.mark.parametrize(
    ("load", "factor"), [(0, 1), (60, 1), (60.1, 1.2), (80, 1.2), (80.1, 1.5), (100, 1.5), (400, 1.5)]
)
def test_load_factor(load, factor):
    """Above 80 % load the limit is stretched by 1.5, above 60 % by 1.2; at once, and for answers that come later."""
    smart = SmartTimeout(2, adaptive_factor=3)
    smart.update_load_factor(load)
    assert smart.current_limit() == pytest.approx(6 * factor)
    smart.record(1.0)
    assert smart.current_limit() == pytest.approx(3 * factor)
    assert smart.get_stats().current_load == load
    smart.update_load_factor(0)
    assert smart.current_limit() == pytest.approx(3)


def test_load_factor_is_clamped():
    """Load stretches the limit no further than `max_timeout`."""
    smart = SmartTimeout(2, max_timeout=5)
    smart.update_load_factor(99)
    assert smart.current_limit() == 5


@pytest.mark.parametrize("load", [-1, math.nan, math.inf, True, "90", None, [90]], ids=str)
def test_bad_load(load):
    """A load that is none is refused by value, and the last one stays."""
    smart = SmartTimeout(2)
    smart.update_load_factor(70)
    with pytest.raises(ConfigurationError, match=r"^load="):
        smart.update_load_factor(load)
    assert (smart.get_stats().current_load, smart.current_limit()) == (70, pytest.approx(4.8))


TIMES = st.one_of(st.floats(0, 60), st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0, 59.9]))


@given(times=st.lists(TIMES, min_size=1, max_size=60), size=st.integers(1, 25), statistic=st.sampled_from(STATISTICS))
def test_limit_follows_the_window(times, size, statistic):
    """After each answer the limit is that of the last `window_size` answers, as a model by sorting has it."""
    smart, window = SmartTimeout(1, statistic=statistic, window_size=size), deque(maxlen=size)
    for seconds in times:
        smart.record(seconds)
        window.append(seconds)
        expected = min(30.0, max(0.1, usual(window, statistic) * 2))
        assert smart.current_limit() == pytest.approx(expected, rel=1e-9, abs=1e-9)
        stats = smart.get_stats()
        assert stats[:3] == pytest.approx((usual(window, "mean"), min(window), max(window)), abs=1e-9)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), st.floats(0, 40)),
        st.tuples(st.just("error"), st.floats(0, 40)),
        st.tuples(st.just("timeout"), st.none()),
        st.tuples(st.just("load"), st.floats(0, 120)),
    ),
    max_size=60,
)


@given(steps=STEPS, size=st.integers(1, 12), statistic=st.sampled_from(STATISTICS), factor=st.floats(1.1, 5))
def test_limit_after_anything(steps, size, statistic, factor):
    """Answers, errors, timeouts and load in any order give the limit and the counts that the rules give."""
    smart = SmartTimeout(1, statistic=statistic, window_size=size, adaptive_factor=factor)
    smart.record(1.0)
    window, load, timeouts = deque([1.0], maxlen=size), 0.0, 0
    for what, number in steps:
        if what == "load":
            smart.update_load_factor(number)
            load = number
        elif what == "timeout":
            limit = smart.current_limit()
            smart.record_timeout(limit, limit)
            timeouts += 1
            window.append(limit)
        elif what == "answer":
            smart.record(number)
            window.append(number)
        elif abs(number - usual(window, statistic)) > 1e-6:
            smart.record_error(number)
            if number > usual(window, statistic):
                window.append(number)
        scale = factor * (1.5 if load > 80 else 1.2 if load > 60 else 1)
        expected = min(30.0, max(0.1, usual(window, statistic) * scale))
        assert smart.current_limit() == pytest.approx(expected, rel=1e-6, abs=1e-6)
        stats = smart.get_stats()
        assert (stats.timeout_count, stats.current_load) == (timeouts, load)
        assert stats.max_response_time == pytest.approx(max(window), abs=1e-6)


@pytest.mark.parametrize("statistic", SHARES)
def test_quantile_for_every_size(statistic):
    """The quantile is the smallest time that the share of the times does not exceed, whatever their number."""
    times = ResponseTimes(300, float(SHARES[statistic]))
    numbers = [float(number) for number in range(1, 301)]
    random.Random(7).shuffle(numbers)  # noqa: S311 - an order, no secret
    for count, seconds in enumerate(numbers, 1):
        got = times.add(seconds)
        seen = numbers[:count]
        assert got == times.usual() == usual(seen, statistic)
        assert sum(number <= got for number in seen) >= SHARES[statistic] * count


def test_sum_does_not_drift():
    """After many answers of awkward lengths the average is still exactly that of the window."""
    smart, chance = SmartTimeout(1, window_size=10), random.Random(3)  # noqa: S311 - no secret
    for _ in range(300_000):
        smart.record(chance.random() * chance.choice([1e-6, 1, 30]))
    for _ in range(10):
        smart.record(0.25)
    assert smart.current_limit() == 0.5


# What counts


@pytest.mark.parametrize("statistic", STATISTICS)
def test_quick_errors(statistic):
    """Errors that come faster than the usual answer change nothing, however many they are; slower ones count."""
    smart = SmartTimeout(1, statistic=statistic)
    for _ in range(20):
        smart.record(1.0)
    before = smart.get_stats()
    for _ in range(500):
        smart.record_error(0.001)
    assert smart.get_stats() == before
    assert smart.current_limit() == 2
    for _ in range(100):
        smart.record_error(3.0)
    assert smart.current_limit() == pytest.approx(6)


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("factor", [1.05, 1.5, 2, 4])
def test_limit_grows_back(statistic, factor):
    """From a limit that has become too small, timeouts bring it up to where calls succeed again."""
    smart = SmartTimeout(0.2, statistic=statistic, adaptive_factor=factor, window_size=5)
    for _ in range(5):
        smart.record(0.1)
    for number in range(2000):
        limit = smart.current_limit()
        if limit > 5:
            break
        smart.record_timeout(limit, limit)
        assert smart.get_stats().timeout_count == number + 1
        assert smart.get_stats().max_response_time >= limit
    assert smart.current_limit() > 5


@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_factor_that_cannot_grow(factor):
    """A factor that allows no more than the usual time is refused by name; or else timeouts still raise the limit."""
    try:
        smart = SmartTimeout(0.2, adaptive_factor=factor, window_size=5)
    except ConfigurationError as error:
        assert str(error).startswith(f"adaptive_factor={factor!r}: ")  # noqa: PT017 - one of two ways out
        return
    smart.record(10.0)
    before = smart.current_limit()
    for _ in range(200):
        limit = smart.current_limit()
        smart.record_timeout(limit, limit)
    assert smart.current_limit() > before * 1.5


def test_call_cut_short():
    """A call that something else ended long before its limit is counted, but not as having taken its limit."""
    smart = SmartTimeout(1, max_timeout=60)
    for _ in range(10):
        smart.record(5.0)
    smart.record_timeout(0.5, 10.0)
    assert smart.get_stats()[:3] == (5, 5, 5)
    smart.record_timeout(7.0, 10.0)
    assert smart.get_stats().max_response_time == pytest.approx(7)


# Threads, interrupts, forks


@pytest.mark.parametrize("statistic", ["mean", "p95"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_sixteen_threads(size, statistic):
    """Sixteen threads lose no timeout, and leave a window whose average is that of its times."""
    smart, errors = SmartTimeout(1, window_size=size, statistic=statistic), []

    def work(index):
        try:
            for number in range(2000):
                smart.record(number % 10 / 8)
                smart.record_timeout(2.0, 2.0)
                smart.record_error(0.0)
        except Exception as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
    assert smart.get_stats().timeout_count == 32_000
    assert len(smart._times) == size
    for _ in range(size):
        smart.record(0.25)
    assert smart.current_limit() == 0.5
    assert smart.get_stats()[:3] == (0.25, 0.25, 0.25)


class Interrupting(deque):
    """A window of times in which one call ends with Ctrl-C, as a signal's handler is run when a call returns."""

    when = None

    def append(self, seconds):
        super().append(seconds)
        self._interrupt("append")

    def popleft(self):
        first = super().popleft()
        self._interrupt("popleft")
        return first

    def _interrupt(self, name):
        if self.when == name:
            self.when = None
            raise KeyboardInterrupt


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("when", ["append", "popleft"])
@pytest.mark.parametrize("seconds", [0.5, 20.0])
def test_interrupted_while_recording(statistic, when, seconds):
    """Ctrl-C (or an alarm) in the middle of accounting for an answer leaves nothing wrong behind once the window has
    turned over, and no later call breaks."""
    smart = SmartTimeout(1, statistic=statistic, window_size=4)
    for number in range(4):
        smart.record(4.0 - number)
    smart._times._latest = window = Interrupting(smart._times._latest)
    window.when = when
    with pytest.raises(KeyboardInterrupt):
        smart.record(seconds)
    for _ in range(12):
        smart.record(1.0)
    assert smart.current_limit() == pytest.approx(2.0)
    assert smart.get_stats()[:3] == (1, 1, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork_while_recording(statistic):
    """A child that is forked while another thread accounts for an answer goes on, with a limit that is right."""
    smart = SmartTimeout(1, statistic=statistic, window_size=4)
    policy = timeout(smart, method="cooperative", name="forked")
    for number in range(4):
        smart.record(1.0 + number)
    middle, go = threading.Event(), threading.Event()

    class Slow(deque):
        def append(self, seconds):
            super().append(seconds)
            if threading.current_thread() is thread:
                middle.set()
                go.wait(5)

    smart._times._latest = Slow(smart._times._latest)
    thread = threading.Thread(target=smart.record, args=(20.0,), daemon=True)
    thread.start()
    assert middle.wait(5)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            smart._times._latest = deque(smart._times._latest)
            for _ in range(12):
                policy.call(int)
                smart.record(1.0)
            for _ in range(4):
                smart.record(1.0)
            code = 0 if smart.current_limit() == pytest.approx(2.0) else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    go.set()
    thread.join(5)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork_without_a_policy():
    """A lock that another thread held at the fork is free in the child for the policies that use the SmartTimeout."""
    smart = SmartTimeout(1, statistic="p95")
    timeout(smart, name="t")
    held, done = threading.Event(), threading.Event()

    def hold():
        with smart._times._lock:
            held.set()
            done.wait(5)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert held.wait(5)
    child = os.fork()
    if child == 0:
        free = smart._times._lock.acquire(timeout=2)
        os._exit(0 if free else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join(5)
    assert os.waitstatus_to_exitcode(status) == 0


# Where the load comes from


def test_load_source(time):
    """A load source is asked for calls, at most once a second, and what it says counts at once."""
    asked = []

    def load():
        asked.append(time.now)
        return 90 if len(asked) == 1 else 10

    smart = SmartTimeout(2, load_source=load)
    assert asked == []
    assert [smart.current_limit() for _ in range(5)] == [6] * 5
    assert len(asked) == 1
    time.now += 0.9
    assert smart.current_limit() == 6
    time.now += 0.2
    assert smart.current_limit() == 4
    assert len(asked) == 2
    for _ in range(100):
        time.now += 0.1
        smart.current_limit()
    assert 10 <= len(asked) - 2 <= 11
    assert all(later - before >= 1 for before, later in itertools.pairwise(asked))
    assert smart.get_stats().current_load == 10


def test_load_source_is_asked_by_one(time):
    """When sixteen threads begin calls in the same moment, one of them asks."""
    asked, ready = [], threading.Barrier(16)

    def load():
        asked.append(1)
        return 90

    smart = SmartTimeout(2, load_source=load)

    def work():
        ready.wait(5)
        for _ in range(500):
            smart.current_limit()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert asked == [1]


NONSENSE = {
    "raises": lambda: 1 / 0,
    "None": lambda: None,
    "text": lambda: "90",
    "nan": lambda: math.nan,
    "infinite": lambda: math.inf,
    "negative": lambda: -5,
    "true": lambda: True,
    "huge": lambda: 10**400,
    "needs an argument": lambda argument: 5,
}


@pytest.mark.parametrize("source", NONSENSE.values(), ids=NONSENSE.keys())
def test_load_source_that_fails(source, time, caplog):
    """A load source that fails or talks nonsense is logged once each time; the last load stays, and calls go on."""
    smart = SmartTimeout(2, load_source=source)
    smart.update_load_factor(70)
    policy = timeout(smart, method="cooperative")
    with caplog.at_level(logging.ERROR):
        assert [policy.call(lambda: "ok") for _ in range(3)] == ["ok"] * 3
        assert len(caplog.records) == 1
        time.now += 2
        assert policy.call(lambda: "ok") == "ok"
    assert len(caplog.records) == 2
    assert caplog.records[0].name == "resilient.timeout"
    assert "load source" in caplog.records[0].getMessage()
    assert smart.get_stats().current_load == 70


def test_load_source_and_a_broken_log(time, monkeypatch):
    """Not even a log that fails breaks the call."""

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(logging.getLogger("resilient.timeout"), "error", broken)
    assert timeout(SmartTimeout(2, load_source=lambda: None)).call(lambda: "ok") == "ok"


def test_load_source_that_calls_itself(time):
    """A load source that makes a call under the very limit it serves is not asked again for that."""
    policy = timeout(SmartTimeout(2, load_source=lambda: policy.call(lambda: 90.0)), method="cooperative")
    assert policy.call(lambda: "ok") == "ok"
    assert policy.config.limit.get_stats().current_load == 90


def test_load_source_and_the_registry():
    """A load source may use the registry from another thread, also while functions are decorated and reconfigured:
    it never runs under a lock."""
    looks = []

    def load():
        thread = threading.Thread(target=lambda: looks.append(registry.snapshot()), daemon=True)
        before = len(looks)
        thread.start()
        thread.join(1)
        stuck.append(len(looks) == before)
        return 10

    stuck = []

    async def answer():
        return "ok"

    policy = timeout(SmartTimeout(2, load_source=load), name="t")
    policy(answer)
    policy(lambda: "ok")
    registry.configure("timeout", "t", max_abandoned=3)
    policy.config.limit._next_look = -math.inf
    registry.configure("timeout", "t", max_abandoned=4)
    policy.config.limit._next_look = -math.inf
    with registry.disabled():
        pass
    assert not any(stuck)


# psutil


def test_system_load(time):
    """`load_source="system"` asks psutil for the processor's load."""
    psutil = pytest.importorskip("psutil")
    smart = SmartTimeout(2, load_source="system")
    assert 0 <= psutil.cpu_percent() <= 100
    assert any(smart.current_limit() == pytest.approx(limit) for limit in (4, 4.8, 6))
    assert 0 <= smart.get_stats().current_load <= 100


def test_system_load_in_every_thread(time, monkeypatch):
    """The processor's load is that since the last look, whichever thread looks."""
    psutil = pytest.importorskip("psutil")
    kind = type(psutil.cpu_times())

    def busy(percpu=False):
        """All the time since the beginning the processor has been busy."""
        return kind(*(time.now if field == "user" else 0.0 for field in kind._fields))

    monkeypatch.setattr(psutil, "cpu_times", busy)
    monkeypatch.setattr(psutil, "_last_cpu_times", {})
    smart, threads, stay = SmartTimeout(2, load_source="system"), [], threading.Event()

    def look(seen):
        smart.current_limit()
        seen.set()
        stay.wait(5)  # so that the next thread has another identity

    loads = []
    for _ in range(3):
        time.now += 2
        seen = threading.Event()
        threads.append(threading.Thread(target=look, args=(seen,), daemon=True))
        threads[-1].start()
        assert seen.wait(5)
        loads.append(smart.get_stats().current_load)
    stay.set()
    for thread in threads:
        thread.join(5)
    assert loads == [100, 100, 100]


def test_system_load_without_psutil(monkeypatch):
    """Without psutil, `load_source="system"` says what to install; everything else works without it."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(
        ConfigurationError, match=r"load_source='system'.*psutil.*resilient-toolkit\[psutil\]"
    ) as caught:
        SmartTimeout(2, load_source="system")
    assert caught.value.__suppress_context__
    assert SmartTimeout(2, load_source=lambda: 90).current_limit() == 6
