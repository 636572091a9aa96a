"""No counter and no histogram ever falls, whatever is done to policies between two scrapes."""

import gc
import os
import threading
from contextlib import ExitStack, suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry

from resilient import bulkhead, circuit_breaker, degrade, metrics, registry, retry, timeout
from resilient.circuit_breaker import CircuitBreaker
from resilient.meters import METERS
from resilient.metrics import CATALOGUE
from resilient.metrics.catalogue import Type
from resilient.metrics.prometheus import _installed
from resilient.testing import VirtualClock

from .helpers import Script, call

CUMULATIVE = {name for name, one in CATALOGUE.items() if one.type is not Type.GAUGE}


def cumulative(target):
    """Return everything that must never fall, by sample and labels."""
    found = {}
    for family in target.collect():
        if family.name in CUMULATIVE or f"{family.name}_total" in CUMULATIVE:
            for sample in family.samples:
                found[sample.name, *sample.labels.values()] = sample.value
    return found


def fallen(before, after):
    """Return what is less than it was, or gone."""
    return {key: (value, after.get(key)) for key, value in before.items() if after.get(key, -1) < value}


class Counters(RuleBasedStateMachine):
    """Policies that are called, changed, put aside and thrown away, and two registries that look on."""

    def __init__(self):
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(registry.scoped())
        self.clock = self.stack.enter_context(VirtualClock())
        self.targets = [CollectorRegistry(), CollectorRegistry()]
        for target, most in zip(self.targets, (1000, 2), strict=True):
            metrics.install(target, max_names=most)
        self.seen = [{}, {}]
        self.scopes = []
        self.automatic = []
        self.calls = 0
        self.base = self.succeeded()

    def teardown(self):
        for scope in reversed(self.scopes):
            scope.close()
        for target in self.targets:
            metrics.uninstall(target)
        self.stack.close()

    names = st.sampled_from("abcd")

    def policy(self, kind, name):
        makers = {
            "retry": lambda: retry(name=name, max_attempts=2, base_delay=0, jitter=False),
            "breaker": lambda: circuit_breaker(name, failure_threshold=2, recovery_timeout=5),
            "bulkhead": lambda: bulkhead(name),
            "timeout": lambda: timeout(5, name=name, method="cooperative"),
            "degrade": lambda: degrade(fallback=0, name=name),
        }
        shelf = {"breaker": "circuit_breakers", "retry": "retries", "degrade": "degradations"}.get(kind, f"{kind}s")
        return getattr(registry, shelf).get(name) or makers[kind]()

    kinds = st.sampled_from(["retry", "breaker", "bulkhead", "timeout", "degrade"])

    @rule(kind=kinds, name=names, ok=st.booleans(), late=st.sampled_from([0, 1, 9]))
    def call(self, kind, name, ok, late):
        script = Script("ok" if ok else ConnectionError())

        def body():
            self.clock.advance(late)
            return script()

        call(self.policy(kind, name), "sync", body)

    @rule(name=names, what=st.sampled_from(["reset", "isolate", "disable"]))
    def by_hand(self, name, what):
        getattr(self.policy("breaker", name), what)()

    @rule(name=names, window=st.sampled_from([None, 3, 10]))
    def reconfigure(self, name, window):
        self.policy("breaker", name)
        registry.configure("circuit_breaker", name, window_size=window, failure_threshold=2)

    @rule(name=names, attempts=st.integers(1, 3))
    def change_attempts(self, name, attempts):
        self.policy("retry", name)
        registry.configure("retry", name, max_attempts=attempts)

    @rule(failures=st.integers(0, 2))
    def decorate(self, failures):
        script = Script(*[ConnectionError()] * failures, "ok")

        def fetch():
            return script()

        guarded = retry(base_delay=0, jitter=False, max_attempts=5)(fetch)
        guarded()
        self.calls += 1
        self.automatic.append(guarded)
        for target in self.targets:
            cumulative(target)  # what nobody has read before it is gone cannot be known

    @precondition(lambda self: self.automatic)
    @rule(which=st.randoms())
    def throw_away(self, which):
        self.automatic.pop(which.randrange(len(self.automatic)))
        gc.collect()

    @precondition(lambda self: len(self.scopes) < 2)
    @rule()
    def enter_scope(self):
        scope = ExitStack()
        scope.enter_context(registry.scoped())
        self.scopes.append(scope)

    @precondition(lambda self: self.scopes)
    @rule()
    def leave_scope(self):
        self.scopes.pop().close()

    @rule(seconds=st.integers(0, 10))
    def wait(self, seconds):
        self.clock.advance(seconds)

    def succeeded(self):
        samples = [s for family in self.targets[0].collect() for s in family.samples]
        named = [s for s in samples if s.name == "recovery_retry_success_total" and "fetch" in s.labels["name"]]
        return sum(s.value for s in named)

    @invariant()
    def nothing_falls(self):
        for place, target in enumerate(self.targets):
            now = cumulative(target)
            assert fallen(self.seen[place], now) == {}
            self.seen[place] = now

    @invariant()
    def nothing_is_lost(self):
        assert self.succeeded() - self.base == self.calls

    @invariant()
    def histograms_agree(self):
        now = cumulative(self.targets[0])
        for (sample, *labels), value in now.items():
            if sample == "recovery_retry_latency_seconds_count":
                ended = [now[f"recovery_retry_{what}_total", *labels] for what in ("success", "failure")]
                assert value == sum(ended)


Counters.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
test_whatever_is_done = Counters.TestCase


@pytest.mark.parametrize("kind", ["retry", "timeout"])
def test_two_policies_at_one_address(scrape, kind):
    """A policy that is made where a thrown away one was is another one: what both counted is added."""
    for number in range(1, 6):
        if kind == "retry":
            policy, metric = retry(name=None, base_delay=0), "recovery_retry_success_total"
        else:
            policy, metric = timeout(-0.0), "recovery_timeout_events_total"

        def fetch():
            return 1

        with suppress(TimeoutError):
            policy(fetch)()
        shown = [value for key, value in scrape.all().items() if key[0] == metric and "fetch" in key[1]]
        assert sum(shown) == number
        del policy, fetch
        gc.collect()


def test_a_call_that_has_not_been_counted_yet(scrape):
    """A scrape between the measuring of a call and its counting, or before both, takes nothing from the buckets."""
    policy = retry(name="r", base_delay=0, jitter=False)
    policy.call(Script("ok"))
    policy.call(Script(ConnectionError(), "ok"))
    before = cumulative(scrape.registry)
    policy.latency.observe(3.0, "r")  # as the first half of a call that ends
    between = cumulative(scrape.registry)
    policy.tally.succeeded += 1
    after = cumulative(scrape.registry)

    assert fallen(before, between) == fallen(between, after) == {}
    assert after["recovery_retry_latency_seconds_count", "r"] == 3
    assert after["recovery_retry_latency_seconds_bucket", "r", "0.005"] == 2


def test_calls_are_measured_before_they_are_counted(monkeypatch, scrape, face):
    """Whatever way a retried call ends, its time is known before its end is counted."""
    seen = []
    policy = retry(name="r", base_delay=0, jitter=False, max_attempts=2, on=ConnectionError)

    def told(metric, labels, seconds):
        seen.append((metric, labels, policy.tally.succeeded + policy.tally.failed))

    monkeypatch.setattr(METERS, "listeners", (told,))
    for answers in ([ConnectionError(), "ok"], [ConnectionError()], [ConnectionError(), KeyError()]):
        call(policy, face, Script(*answers))

    assert seen == [("recovery_retry_latency_seconds", ("r",), number) for number in range(3)]
    assert scrape("recovery_retry_latency_seconds_count", name="r") == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forking is of POSIX")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_scrapes(scrape):
    """A child has what its parent had counted, goes on from there, and can be scraped though a scrape was under way."""
    policy = retry(name="r", base_delay=0)
    policy.call(Script("ok"))
    before = cumulative(scrape.registry)
    gatherer = _installed[scrape.registry]._gatherer
    reading, go_on = threading.Event(), threading.Event()

    def hold():
        with gatherer._lock:
            reading.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    reading.wait(5)
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            policy.call(Script("ok"))
            now = cumulative(scrape.registry)
            good = not fallen(before, now) and now["recovery_retry_success_total", "r"] == 2
            os.write(here, b"good" if good else b"bad")
        finally:
            os._exit(0)
    os.close(here)
    go_on.set()
    thread.join(5)
    with os.fdopen(there, "rb") as told:
        assert _read(told, child) == b"good"


def _read(told, child):
    """Read what the child says, and end it if it says nothing."""
    impatient = threading.Timer(10, os.kill, (child, 9))
    impatient.start()
    try:
        return told.read()
    finally:
        impatient.cancel()
        os.waitpid(child, 0)


def test_overtaken_reading(scrape, monkeypatch):
    """A reading during which another one begins and ends does not take back what that one has shown."""
    rejections = ("recovery_circuit_breaker_rejections_total",)
    breaker = circuit_breaker(name="overtaken", failure_threshold=100)
    shown = []
    totals = CircuitBreaker.totals

    def late(self):
        monkeypatch.undo()
        breaker.isolate()
        call(breaker, "sync", int)
        breaker.reset()
        shown.append(scrape(*rejections, name="overtaken"))
        for _ in range(9):
            call(breaker, "sync", int)
        return totals(self)

    monkeypatch.setattr(CircuitBreaker, "totals", late)
    shown.append(scrape(*rejections, name="overtaken"))
    assert shown == [1, 1]
