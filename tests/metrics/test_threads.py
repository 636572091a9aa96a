"""Threads and tasks that call while others scrape: nothing is lost, nothing waits, and whole numbers add up."""

import asyncio
import sys
import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from resilient import bulkhead, circuit_breaker, degrade, metrics, retry
from resilient.metrics.readings import OF_KIND

from .test_counters_never_fall import cumulative, fallen

THREADS, CALLS = 8, 300


@pytest.fixture(autouse=True)
def switching():
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def guarded(body):
    """Put the four policies, each named "busy", around a function."""
    decorators = [
        degrade(fallback="instead", name="busy"),
        retry(name="busy", max_attempts=2, base_delay=0, jitter=False),
        circuit_breaker("busy", failure_threshold=10**9),
        bulkhead("busy", max_concurrent=10**6),
    ]
    for decorator in reversed(decorators):
        body = decorator(body)
    return body


class Scraper(threading.Thread):
    """Scrapes until it is told to stop, and keeps what has fallen from one scrape to the next."""

    def __init__(self, target):
        super().__init__()
        self.target, self.fallen, self.scrapes, self.stop = target, {}, 0, threading.Event()

    def run(self):
        before = {}
        while not self.stop.is_set():
            generate_latest(self.target)
            now = cumulative(self.target)
            self.fallen |= fallen(before, now)
            before = now
            self.scrapes += 1


def outcome(number):
    """Every third call fails once, every fifth twice, and so for good."""
    return 2 if number % 5 == 0 else 1 if number % 3 == 0 else 0


def expected(calls):
    """Return the exact totals of so many calls, by sample."""
    failures = [outcome(number) for number in range(calls)]
    once, twice = failures.count(1), failures.count(2)
    return {
        "recovery_retry_attempts_total": calls + once + twice,
        "recovery_retry_success_total": calls - twice,
        "recovery_retry_failure_total": twice,
        "recovery_retry_latency_seconds_count": calls,
        "recovery_degradation_events_total": twice,
    }


def scraped(target, work):
    """Let two threads scrape while something works; return what they saw fall."""
    scrapers = [Scraper(target), Scraper(target)]
    for scraper in scrapers:
        scraper.start()
    try:
        work()
    finally:
        for scraper in scrapers:
            scraper.stop.set()
            scraper.join(30)
    assert all(scraper.scrapes for scraper in scrapers)
    return [scraper.fallen for scraper in scrapers]


def test_threads(scrape):
    """Eight threads that call while two scrape are counted to the last attempt, and no counter ever falls."""
    local = threading.local()

    @guarded
    def fetch(number):
        if getattr(local, "number", None) != number:
            local.number, local.left = number, outcome(number)
        if local.left:
            local.left -= 1
            raise ConnectionError
        return number

    def work():
        for number in range(CALLS):
            fetch(number)

    def all_threads():
        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert scraped(scrape.registry, all_threads) == [{}, {}]
    assert {key: scrape(key, name="busy") for key in expected(1)} == {
        key: value * THREADS for key, value in expected(CALLS).items()
    }


def test_tasks(scrape):
    """A thousand tasks that call while two threads scrape are counted to the last attempt."""
    left = {number: outcome(number) for number in range(1000)}

    @guarded
    async def fetch(number):
        await asyncio.sleep(0)
        if left[number]:
            left[number] -= 1
            raise ConnectionError
        return number

    async def main():
        await asyncio.gather(*(fetch(number) for number in left))

    assert scraped(scrape.registry, lambda: asyncio.run(main())) == [{}, {}]
    assert {key: scrape(key, name="busy") for key in expected(1)} == expected(1000)


def test_policies_that_come_while_it_is_scraped():
    """Decorating, and throwing away what was decorated, goes on beside scrapes."""
    target, failed = CollectorRegistry(), []
    metrics.install(target)

    def work():
        for _ in range(200):
            try:
                retry(base_delay=0)(lambda: 1)()
            except Exception as error:  # noqa: BLE001 - whatever a thread meets, the test has to know
                failed.append(error)

    def threads():
        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)

    assert scraped(target, threads) == [{}, {}]
    assert failed == []
    metrics.uninstall(target)


def test_a_caller_does_not_wait_for_a_scrape(scrape, monkeypatch):
    """While a scrape stands still in the middle of its reading, calls go through."""
    function = guarded(lambda: "ok")
    reading, go_on = threading.Event(), threading.Event()
    really = OF_KIND["bulkhead"]

    def stand_still(policy):
        reading.set()
        assert go_on.wait(10)
        return really(policy)

    monkeypatch.setitem(OF_KIND, "bulkhead", stand_still)
    thread = threading.Thread(target=scrape.all)
    thread.start()
    try:
        assert reading.wait(5)
        assert function() == "ok"
        assert thread.is_alive()
    finally:
        go_on.set()
        thread.join(10)
    assert scrape("recovery_bulkhead_active_connections", name="busy") == 0
