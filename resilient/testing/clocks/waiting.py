"""Whether a thread waits for others, or works: told by the function it is in, and by what that waits for.

A thread that was woken and has not run yet looks as if it waited; so what it waits for is looked at too.
"""

from __future__ import annotations

import functools
import gc
import os
import selectors
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import thread as pools
from types import CodeType, FrameType
from typing import Any

from resilient import clock
from resilient.testing.clocks import virtual_loops
from resilient.timeout import workers

_looking = threading.RLock()
_paused = False  # whether the garbage collector rests while somebody looks


def frames() -> dict[int, FrameType]:
    """The innermost frames of all threads, of one moment."""
    global _paused  # noqa: PLW0603 - of the process
    with _looking:
        collects = _paused = gc.isenabled()
        # Or Python 3.11 stands still for ever, where it collects garbage meanwhile and a thread begins or ends.
        try:
            gc.disable()
            return sys._current_frames()
        finally:
            if collects:
                gc.enable()
            _paused = False


def _after_fork() -> None:
    global _looking, _paused  # noqa: PLW0603 - of the process
    _looking = threading.RLock()
    if _paused:
        gc.enable()
        _paused = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def any_runs(idents: Iterable[int]) -> bool:
    """Whether the system says of one of these threads that it runs, or would if it were its turn; as far as it tells.

    Who was woken and has not had his turn yet still stands in the same place.
    """
    return any(_state(number) in ("R", "D") for number in _numbers(idents).values())


def times(idents: Iterable[int]) -> dict[int, int]:
    """How long each of these threads has run so far, in nanoseconds, as far as the system tells (0: it does not)."""
    return {ident: _time(number) for ident, number in _numbers(idents).items()}


@functools.cache
def tells() -> bool:
    """Whether the system says how long a thread has run."""
    return _time(threading.get_native_id()) > 0


def _numbers(idents: Iterable[int]) -> dict[int, int | None]:
    """The numbers by which the system knows threads."""
    wanted = list(idents)
    known = {one.ident: one.native_id for one in threading.enumerate()} if wanted else {}
    return {ident: known.get(ident) for ident in wanted}


def _time(number: int | None) -> int:
    try:
        with open(f"/proc/self/task/{number}/schedstat", encoding="latin-1") as file:
            return int(file.read().split()[0])
    except (OSError, IndexError, ValueError):
        return 0


def _state(number: int | None) -> str:
    try:
        with open(f"/proc/self/task/{number}/stat", encoding="latin-1") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # another system, or the thread has ended
        return ""


def waits(frame: FrameType) -> bool:
    """Whether the thread with this innermost frame seems to go on only when another thread, or time, lets it."""
    code = frame.f_code
    still_waits = _WAITS.get(code)
    if still_waits is not None:
        return still_waits(frame)
    if code.co_filename == selectors.__file__:
        # A loop that follows the clock waits for it, and is known to the clock; here it only looks.
        return frame.f_back is None or frame.f_back.f_code.co_filename != virtual_loops.__file__
    return code.co_filename == clock.__file__  # began to wait before the clock was in use


def is_known(frame: FrameType) -> bool:
    """Whether it can be told what a thread with this innermost frame waits for."""
    return frame.f_code in _WAITS


def waits_if_known(frame: FrameType) -> bool:
    """Whether it waits, where it can be told what for; true of all others."""
    still_waits = _WAITS.get(frame.f_code)
    return still_waits is None or still_waits(frame)


def surely_waits(frame: FrameType) -> bool:
    """The same where that is certain: nobody has woken it, and no real time will."""
    still_waits = _WAITS.get(frame.f_code)
    # A pool's thread may just have got its work, and have it nowhere yet where it would be seen.
    if still_waits is None or still_waits is _pool or not still_waits(frame):
        return False
    return frame.f_locals.get("timeout") in (None, -1)


def _condition(frame: FrameType) -> bool:
    waiter = frame.f_locals.get("waiter")
    if waiter is None or not waiter.locked():
        return False
    # Who starts a thread waits for one that has not run at all yet.
    caller = frame.f_back
    while caller is not None and caller.f_code.co_filename == threading.__file__:
        if caller.f_code is threading.Thread.start.__code__:
            return False
        caller = caller.f_back
    return True


def _join(frame: FrameType) -> bool:
    joined = frame.f_locals.get("self")
    return joined is not None and joined.ident in frames()


def _pool(frame: FrameType) -> bool:
    queue = frame.f_locals.get("work_queue")
    return frame.f_locals.get("work_item") is None and queue is not None and bool(queue.empty())


def _timeout_worker(frame: FrameType) -> bool:
    return frame.f_locals.get("self") in workers._idle


def _code(function: Any) -> CodeType:
    code: CodeType = function.__code__
    return code


_WAITS: dict[CodeType, Callable[[FrameType], bool]] = {
    _code(threading.Condition.wait): _condition,
    _code(threading.Thread.join): _join,
    _code(pools._worker): _pool,
    _code(workers.Worker._work): _timeout_worker,
}
if hasattr(threading.Thread, "_wait_for_tstate_lock"):  # where `join` waits before Python 3.13
    _WAITS[_code(threading.Thread._wait_for_tstate_lock)] = _join
