"""A call that ended just as its caller gave up on it used to answer None, and to leave its thread to two callers."""

import threading
import time

import pytest

from resilient import CallTimeoutError, timeout
from resilient.timeout import workers

from .helpers import Lines, at_line, eventually, in_threads, outcome

LIMIT, PAUSE, STEPS = 0.01, 0.02, 80
PACKAGE = "resilient/timeout/"


@pytest.fixture
def park():
    """Put idle threads aside, so that the next call gets a new one."""
    parked = []

    def put_aside():
        while workers._idle:
            parked.append(workers._idle.pop())

    put_aside()
    yield put_aside
    workers._idle.extend(parked)


def check_threads(policy):
    """No thread is idle twice, so two calls at once get their own answers."""
    eventually(lambda: policy.abandoned == 0)
    idle = list(workers._idle)
    assert len({id(worker) for worker in idle}) == len(idle)
    both = threading.Barrier(2, timeout=5)

    @timeout(5)
    def own(answer):
        both.wait()
        return answer

    assert in_threads(lambda: own("a"), lambda: own("b")) == ["a", "b"]


def test_end_between_two_lines_of_the_caller():
    """Wherever the caller is when the call ends, it gets the answer or CallTimeoutError, and nobody else's thread."""
    for step in range(STEPS):
        policy, ended, answer, results = timeout(LIMIT), threading.Event(), object(), []

        def body(ended=ended, answer=answer):
            ended.wait(5)
            return answer

        def end(ended=ended):
            ended.set()
            time.sleep(PAUSE)

        began = time.monotonic()
        reached = at_line(
            step,
            end,
            lambda policy=policy, body=body, results=results: results.append(outcome(policy.call, body)),
            PACKAGE,
            when=lambda began=began: time.monotonic() - began >= LIMIT,
        )
        ended.set()
        assert results == [answer] or isinstance(results[0], CallTimeoutError), (step, results)
        check_threads(policy)
        if not reached:
            return
    pytest.fail(f"more than {STEPS} lines")


def test_limit_between_two_lines_of_the_worker(park):
    """Wherever the worker is when the limit passes, the caller gets the answer or CallTimeoutError."""
    for step in range(STEPS):
        park()
        policy, answer, returned = timeout(LIMIT), object(), threading.Event()

        def body(answer=answer, returned=returned):
            returned.set()
            return answer

        lines = Lines(step, lambda: time.sleep(PAUSE), PACKAGE, when=returned.is_set)
        before = threading.gettrace()
        threading.settrace(lines)
        try:
            result = outcome(policy.call, body)
        finally:
            threading.settrace(before)
        assert result is answer or isinstance(result, CallTimeoutError), (step, result)
        eventually(lambda: policy.abandoned == 0)  # noqa: B023 - called at once
        time.sleep(0.002)
        reached = lines.reached
        lines.reached = True
        check_threads(policy)
        if not reached:
            return
    pytest.fail(f"more than {STEPS} lines")
