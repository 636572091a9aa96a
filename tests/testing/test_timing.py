"""Which calls meet a fault, and when: rates, seeds, limits, windows, delays and conditions."""

import asyncio
import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilient import CircuitState, ConfigurationError, circuit_breaker, retry
from resilient.testing import InjectionTiming, VirtualClock, faults, inject

ONCE = {"max_attempts": 1}


def hit(injection, load, calls):
    """The numbers of the calls that met the fault, one after the other."""
    numbers = []
    for number in range(calls):
        before = injection.fired
        load(number)
        if injection.fired > before:
            numbers.append(number)
    return numbers


def load():
    """The target."""


SITE = f"{__name__}:load"


def drawn(seed, rate=0.3, calls=400, fault=None):
    """The pattern of a seed, call by call in one thread."""
    with inject(SITE, fault or faults.CorruptResult(lambda one: "hit"), rate=rate, seed=seed):
        function = globals()["load"]
        return [number for number in range(calls) if function() == "hit"]


def pattern_in_threads(seed, calls=400):
    """Which call numbers were hit when 8 threads call at once; the number is what the decision was asked for."""
    with inject(SITE, faults.Latency(0), rate=0.3, seed=seed) as injection:
        decided = watch(injection)
        with ThreadPoolExecutor(8) as pool:
            for _ in range(calls):
                pool.submit(globals()["load"])
    return decided(), injection


def pattern_in_tasks(seed, calls=400):
    """The same for 50 tasks, which wait for random times in between."""

    @retry(max_attempts=1)
    async def work():
        await asyncio.sleep(0)

    async def one(calls):
        for _ in range(calls):
            await asyncio.sleep(secrets.randbelow(100) / 1_000_000)
            await work()

    async def main():
        await asyncio.gather(*(one(calls // 50) for _ in range(50)))

    with inject(work, faults.Latency(0), rate=0.3, seed=seed) as injection:
        decided = watch(injection)
        asyncio.run(main())
    return decided(), injection


def watch(injection):
    """Note the numbers for which a decision was positive."""
    numbers, draw = [], injection._drawn

    def drawn(site, number):
        yes = draw(site, number)
        if yes:
            numbers.append(number)
        return yes

    injection._drawn = drawn
    return lambda: frozenset(numbers)


# Rates and seeds


@pytest.mark.parametrize("pattern", [pattern_in_threads, pattern_in_tasks])
def test_same_seed_hits_the_same_calls(pattern):
    """20 of 20 runs with 8 threads, and with 50 tasks, hit the same set of call numbers; all of them happen."""
    runs = [pattern(7) for _ in range(20)]
    assert len({numbers for numbers, _ in runs}) == 1
    assert all((one.calls, one.fired) == (400, len(numbers)) for numbers, one in runs)
    assert 60 <= len(runs[0][0]) <= 180


def test_other_seed_hits_other_calls():
    """The pattern depends on the seed, and for the same seed on the fault."""
    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert drawn("seven") == drawn("seven")
    renamed = type("Renamed", (faults.CorruptResult,), {})(lambda one: "hit")
    assert drawn(7) != drawn(7, fault=renamed)


def test_pattern_is_fixed():
    """The pattern of a seed is the same in every version: one that changes it breaks the seeds that people noted."""
    with inject("json:dumps", faults.CorruptResult(lambda _: "hit"), rate=0.3, seed=7):
        assert [number for number in range(30) if json.dumps(number) == "hit"] == FIXED


FIXED = [3, 5, 6, 13, 16, 19, 21, 29]


def test_places_have_patterns_of_their_own():
    """Two functions of one policy are hit by patterns of their own, whatever order they are called in."""
    policy = retry(name="both", **ONCE)

    @policy
    def one():
        return None

    @policy
    def two():
        return None

    def hits(order):
        with inject("both", faults.CorruptResult(lambda _: True), rate=0.5, seed=3):
            results = [(function, function()) for function in order]
        return [[result for function, result in results if function is wanted] for wanted in (one, two)]

    apart, mixed = hits([one] * 40 + [two] * 40), hits([one, two] * 40)
    assert apart == mixed
    assert apart[0] != apart[1]


@pytest.mark.parametrize(("rate", "least", "most"), [(0, 0, 0), (0.1, 60, 150), (0.5, 430, 570), (1, 1000, 1000)])
def test_rate(rate, least, most):
    """The rate is the share of calls that are hit; 0 hits none, 1 all."""
    assert least <= len(drawn(1, rate=rate, calls=1000)) <= most


def test_seed_is_shown():
    """Without a seed one is made and shown, and with it the pattern comes again."""
    target = retry(**ONCE)(lambda _: None)
    with inject(target, faults.Latency(0), rate=0.5) as first:
        numbers = hit(first, target, 50)
    assert f"seed={first.seed!r}" in repr(first)
    assert "rate=0.5" in repr(first)
    with inject(target, faults.Latency(0), rate=0.5, seed=first.seed) as second:
        assert hit(second, target, 50) == numbers
    assert inject(target, faults.Latency(0)).seed != inject(target, faults.Latency(0)).seed


# How often


def test_max_count_is_exact_under_threads():
    """Of many calls at once exactly `max_count` meet the fault, and always the first ones that were drawn."""
    results = []

    @retry(**ONCE)
    def work():
        return False

    with inject(work, faults.CorruptResult(lambda _: True), max_count=37, seed=1) as injection:
        threads = [threading.Thread(target=lambda: results.extend(work() for _ in range(100))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (injection.calls, injection.fired, sum(results)) == (800, 37, 37)


def test_max_count_takes_the_first():
    """With a rate, the limit leaves the first of the calls that the seed draws."""
    target = retry(**ONCE)(lambda _: None)
    with inject(target, faults.Latency(0), rate=0.3, seed=5) as unlimited:
        numbers = hit(unlimited, target, 60)
    with inject(target, faults.Latency(0), rate=0.3, seed=5, max_count=4) as limited:
        assert hit(limited, target, 60) == numbers[:4]


# When


def hits_at(clock, moments, **options):
    """Whether calls at these moments (seconds since the beginning) meet the fault."""
    target = retry(**ONCE)(lambda: False)
    now, seen = 0.0, []
    with inject(target, faults.CorruptResult(lambda _: True), **options):
        for moment in moments:
            clock.advance(moment - now)
            now = moment
            seen.append(target())
    return seen


@pytest.fixture
def clock():
    """Time that is told to pass."""
    with VirtualClock() as clock:
        yield clock


def test_immediate(clock):
    """Without a timing, faults happen from the first call on."""
    assert hits_at(clock, [0, 5]) == [True, True]


def test_delayed(clock):
    """A delayed injection begins after so many seconds."""
    assert hits_at(clock, [0, 4.5, 5.5, 100], timing=InjectionTiming.delayed(5)) == [False, False, True, True]


def test_during(clock):
    """A window has its beginning in it and its end not."""
    assert hits_at(clock, [0, 4, 6, 14, 16], during=(5, 15)) == [False, False, True, True, False]


def test_random(clock):
    """A random beginning lies within its limit, is decided by the seed, and differs between seeds."""
    moments = [0.5 * step for step in range(25)]

    def beginning(seed):
        seen = hits_at(clock, moments, timing=InjectionTiming.random(10), seed=seed)
        assert seen == sorted(seen)
        return seen.count(False)

    assert [beginning(seed) for seed in range(5)] == [beginning(seed) for seed in range(5)]
    assert len({beginning(seed) for seed in range(5)}) > 1
    assert all(beginning(seed) <= 21 for seed in range(5))


def test_when_sees_counters():
    """A condition sees how many calls came by and how many were hit."""
    target = retry(**ONCE)(lambda _: None)
    third = InjectionTiming.when(lambda moment: moment.calls % 3 == 0 and moment.fired < 2)
    with inject(target, faults.Latency(0), timing=third) as injection:
        assert hit(injection, target, 12) == [2, 5]


def test_when_sees_breakers(clock):
    """A condition sees the states of breakers, and the seconds since the beginning."""
    breaker = circuit_breaker("other", failure_threshold=1)
    seen = []

    def fail():
        raise OSError("down")

    def is_open(moment):
        seen.append(moment.elapsed)
        return moment.breakers["other"].state is CircuitState.OPEN

    target = retry(**ONCE)(lambda: False)
    with inject(target, faults.CorruptResult(lambda _: True), timing=InjectionTiming.when(is_open)):
        assert target() is False
        clock.advance(2)
        with pytest.raises(OSError, match="down"):
            breaker.call(fail)
        assert target() is True
        breaker.reset()
        assert target() is False
    assert seen == [0, 2, 2]


def test_condition_may_call_the_target():
    """A condition that calls what it decides about, once more and in another thread, stops nothing."""
    asked = []

    @retry(**ONCE)
    def work():
        return False

    def condition(moment):
        if not asked:
            asked.append(None)
            thread = threading.Thread(target=lambda: asked.append(work()))
            thread.start()
            thread.join(5)
        return True

    with inject(work, faults.CorruptResult(lambda _: True), timing=InjectionTiming.when(condition)) as injection:
        assert work() is True
    assert asked == [None, True]
    assert injection.calls == 2


def test_error_of_a_condition_is_told():
    """What a condition raises, the call raises: a broken condition is not silently false."""
    target = retry(**ONCE)(lambda: None)
    broken = InjectionTiming.when(lambda moment: moment.breakers["missing"])
    with inject(target, faults.Latency(0), timing=broken) as injection, pytest.raises(KeyError, match="missing"):
        target()
    assert injection.fired == 0


@pytest.mark.parametrize(
    ("make", "kind", "match"),
    [
        (lambda: InjectionTiming.delayed(-1), ConfigurationError, "seconds=-1"),
        (lambda: InjectionTiming.random("x"), ConfigurationError, "max_seconds='x'"),
        (lambda: InjectionTiming.when(True), TypeError, "predicate=True: must be callable"),
    ],
)
def test_bad_timing(make, kind, match):
    """An impossible timing is refused by name, value and remedy."""
    with pytest.raises(kind, match=match):
        make()


def test_timings_show_themselves():
    """The representation of a timing is what was written."""
    assert repr(InjectionTiming.IMMEDIATE) == "InjectionTiming.IMMEDIATE"
    assert repr(InjectionTiming.delayed(5)) == "InjectionTiming.delayed(5)"
    assert repr(InjectionTiming.random(2.5)) == "InjectionTiming.random(2.5)"
