"""Functions that queues call in these tests, and a process that queues them; imported by its bare name everywhere."""

import asyncio
import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

from resilient.degradation.queues import QueuedCall, SqliteQueue
from resilient.degradation.queues.stores import SqliteStore
from resilient.degradation.tiered import FallbackStrategy, TieredTimeout, TimeoutTier
from resilient.retry import retry

OPTIONS = {"base_delay": 0.02, "max_delay": 0.05, "poll_interval": 0.05, "give_up_after": 8}


def note(log, text):
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def notes(log):
    path = Path(log)
    return path.read_text("utf-8").splitlines() if path.exists() else []


def quick(log, tag):
    note(log, tag)
    return f"did {tag}"


def slow(log, tag):
    note(log, f"begin {tag} {os.getpid()}")
    time.sleep(0.1)
    note(log, f"end {tag} {os.getpid()}")
    return os.getpid()


def fatal(log, tag):
    """Kill the process in the first attempt."""
    note(log, tag)
    if notes(log).count(tag) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"did {tag}"


def flaky(log, tag):
    """Fail the first time."""
    note(log, tag)
    if notes(log).count(tag) == 1:
        raise ConnectionError(tag)
    return f"did {tag}"


async def aquick(log, tag):
    await asyncio.sleep(0)
    return quick(log, tag)


def unpicklable(log):
    return lambda: log


class StrangeError(Exception):
    """Can be pickled, and not be made again."""

    def __init__(self, one, two):
        super().__init__(one)
        self.two = two


def strange():
    raise StrangeError(1, 2)


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """Refuses that its attributes are set."""

    code: int

    def is_retryable(self):
        return False


def frozen():
    raise FrozenError(7)


class MoodyError(Exception):
    """Does not tell when to come again."""

    @property
    def retry_after(self):
        raise LookupError


def moody():
    raise MoodyError


def leave(kind):
    raise kind


class OneWay:
    """Can be pickled, and not be made again."""

    def __init__(self, one, two):
        self.parts = one, two

    def __reduce__(self):
        return OneWay, (1,)


class ExitWhenLoaded:
    """Leaves the interpreter when it is unpickled."""

    def __reduce__(self):
        return sys.exit, ("loaded",)


class Secretive:
    """Tells a secret when it is pickled."""

    def __reduce__(self):
        raise RuntimeError("password=hunter2")


TIERS = TieredTimeout(FallbackStrategy.QUEUE_AND_RETRY)
TIERS.add_tier(TimeoutTier("short", 0.5, 0, 1.0))
DOWN = []


@retry(max_attempts=5, base_delay=0)
@TIERS("short")
@retry(max_attempts=2, base_delay=0)
def guarded(log, tag):
    """Fail while something is in DOWN."""
    note(log, tag)
    if DOWN:
        raise ConnectionError
    return f"did {tag}"


class Service:
    """Methods, each as one can be decorated."""

    @TIERS("short")
    async def method(self, log, tag):
        return guarded_body(log, tag)

    @classmethod
    @TIERS("short")
    def of(cls, log, tag):
        return guarded_body(log, tag) + f" by {cls.__name__}"

    @staticmethod
    @TIERS("short")
    def plain(log, tag):
        return guarded_body(log, tag)


def guarded_body(log, tag):
    note(log, tag)
    if DOWN:
        raise ConnectionError
    return f"did {tag}"


def kill_at(number):
    """Kill this process before step `number` of those that write to the storage, or after one that takes from it."""
    steps = iter(range(1, 1000))

    def die_if_it_is_time():
        if next(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(original):
        def step(self, *args):
            die_if_it_is_time()
            return original(self, *args)

        return step

    def read(original):
        def step(self, *args):
            taken = original(self, *args)
            if taken:
                die_if_it_is_time()
            return taken

        return step

    for name in ("push", "later", "put", "add", "drop", "swap"):
        setattr(SqliteStore, name, write(getattr(SqliteStore, name)))
    for name in ("pull", "due"):
        setattr(SqliteStore, name, read(getattr(SqliteStore, name)))


def main(path, log, function, tag, how):
    """Queue one call, say its id, and be killed in one way or another."""
    special = {"between": {"base_delay": 30, "max_delay": 30, "give_up_after": 3600}, "silent": {"lease": 0.3}}
    queue = SqliteQueue(path, **OPTIONS | special.get(how, {}))
    if how == "before":
        queue.stop()
    elif how.isdigit():
        kill_at(int(how))
    receipt = queue.put(QueuedCall.of(globals()[function], (log, tag)))
    print(receipt.id, flush=True)  # noqa: T201 - to the test that started this process
    if how == "between":
        while receipt.attempts < 1 or receipt.status != "queued":
            time.sleep(0.01)
    elif how == "work" or how.isdigit():
        receipt.result(20)
        time.sleep(0.1)
    elif how in ("during", "silent"):
        time.sleep(20)
    os.kill(os.getpid(), signal.SIGKILL)


def serve(path, count):
    """Work on the queue until so many outcomes are there."""
    queue = SqliteQueue(path, **OPTIONS)
    queue.start()
    print("ready", flush=True)  # noqa: T201 - to the test that started this process
    while len(queue._ledger.done) < int(count):
        time.sleep(0.02)
    queue.stop()


if __name__ == "__main__":
    import queue_jobs  # by its bare name, as the process that reads the queue knows it

    getattr(queue_jobs, sys.argv[1])(*sys.argv[2:])
