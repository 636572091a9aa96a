"""What several of these tests need: crowds with bounded waits, and threads that switch at every chance."""

import asyncio
import contextlib
import sys
import threading

WAIT = 20.0


@contextlib.contextmanager
def frequent_switches():
    """Let the interpreter change threads about every microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(*bodies):
    """Run all bodies at once, each in a thread; raise what one of them raises, and never hang."""
    together, errors = threading.Barrier(len(bodies)), []

    def work(body):
        try:
            together.wait(WAIT)
            body()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(body,), daemon=True) for body in bodies]
    with frequent_switches():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
    assert not any(thread.is_alive() for thread in threads), "a thread still runs"
    if errors:
        raise errors[0]


def run(coroutine):
    """Run a coroutine in an event loop of its own, for a bounded time."""

    async def bounded():
        return await asyncio.wait_for(coroutine, WAIT)

    return asyncio.run(bounded())


def fail(*_):
    """Fail like a service that cannot be reached."""
    raise ConnectionError


async def afail(*_):
    """Fail like a service that cannot be reached."""
    raise ConnectionError


def outcome(function, *args):
    """Return what a call gives, or the exception it raises."""
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001 - looked at by the test
        return error
