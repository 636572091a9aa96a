"""What these tests share: bounded waits, scripts in a process of their own, and a way to come between two lines."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

WAIT = 5.0
"""The longest any helper waits for something that must happen."""


def child(source, limit=10.0):
    """Run a script in an interpreter of its own and return what it prints; fail if it fails or does not end."""
    command = [sys.executable, "-P", "-c", textwrap.dedent(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)  # noqa: S603 - ours
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"still running after {limit} s; until then: {late.stdout!r} {late.stderr!r}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run(coroutine, limit=WAIT):
    """Run a coroutine in a fresh event loop, at most `limit` seconds."""

    async def bounded():
        return await asyncio.wait_for(coroutine, limit)

    return asyncio.run(bounded())


def outcome(function, *args):
    """Return what a call gives, or the exception it raises."""
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001 - looked at by the test
        return error


async def aoutcome(function, *args):
    """Return what an async call gives, or the exception it raises."""
    try:
        return await function(*args)
    except Exception as error:  # noqa: BLE001 - looked at by the test
        return error


def in_threads(*bodies, limit=WAIT):
    """Run all bodies at once, each in a thread; return results and exceptions in order, never hang."""
    together, results = threading.Barrier(len(bodies), timeout=limit), [None] * len(bodies)

    def work(index, body):
        together.wait()
        results[index] = outcome(body)

    threads = [threading.Thread(target=work, args=each, daemon=True) for each in enumerate(bodies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(limit)
    assert not any(thread.is_alive() for thread in threads), f"a thread still runs after {limit} s"
    return results


def eventually(condition, limit=WAIT):
    """Wait until `condition()` is true; fail when it does not become so."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "the condition never became true"
        time.sleep(0.001)


class Elsewhere:
    """Something done in another thread, which may have to wait for a lock that this one holds."""

    def __init__(self, function):
        self._thread = threading.Thread(target=self._work, args=(function,), daemon=True)
        self.error = None

    def _work(self, function):
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised again below
            self.error = error

    def __call__(self):
        """Begin, and wait a moment for the end."""
        self._thread.start()
        self._thread.join(0.003)

    def end(self):
        """Wait for the end, and raise what was raised."""
        self._thread.join(WAIT)
        assert not self._thread.is_alive(), "still waiting"
        if self.error is not None:
            raise self.error


class Lines:
    """A trace function that does something once, before the line that is `step` lines further on in these files."""

    def __init__(self, step, action, *files, when=None):
        self.left, self.action, self.files, self.when = step, action, files, when
        self.reached = False

    def __call__(self, frame, event, arg):
        if event == "call":
            name = frame.f_code.co_filename.replace(os.sep, "/")
            return self if any(part in name for part in self.files) else None
        if event == "line" and not self.reached and (self.when is None or self.when()):
            self.left -= 1
            if self.left < 0:
                self.reached = True
                self.action()
        return self


def at_line(step, action, body, *files, when=None):
    """Run `body()` with `action()` in between, at line number `step` of these files; whether it has that many."""
    lines, before = Lines(step, action, *files, when=when), sys.gettrace()
    sys.settrace(lines)
    try:
        body()
    finally:
        sys.settrace(before)
    return lines.reached


def at_call(step, action, body, *files):
    """Run `body()` with `action()` in between, at call number `step` in these files; whether it has that many.

    That is where the interpreter itself comes in between, with a signal handler or the garbage collector.
    """
    left, reached, before = step, False, sys.getprofile()

    def profile(frame, event, arg):
        nonlocal left, reached
        name = frame.f_code.co_filename.replace(os.sep, "/")
        if reached or event not in ("call", "c_return") or not any(part in name for part in files):
            return
        left -= 1
        if left < 0:
            reached = True
            action()

    sys.setprofile(profile)
    try:
        body()
    finally:
        sys.setprofile(before)
    return reached
