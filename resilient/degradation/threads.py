"""A few threads for a list of things."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any


def in_threads(work: Callable[[Any], Any], things: list[Any], most: int) -> list[Any]:
    """What `work` returns for each, or the exception it raises, in at most so many threads at once.

    SystemExit and the like end it all, and are raised. The threads are daemons: Ctrl-C ends the wait at once, and
    nothing that hangs keeps the interpreter from exiting.
    """
    results: list[Any] = [None] * len(things)
    todo: SimpleQueue[int] = SimpleQueue()
    for place in range(len(things)):
        todo.put(place)
    stop = threading.Event()

    def labour() -> None:
        while not stop.is_set():
            try:
                place = todo.get_nowait()
            except Empty:
                return
            try:
                results[place] = work(things[place])
            except BaseException as error:
                results[place] = error
                if not isinstance(error, Exception):
                    stop.set()

    count = min(most, len(things))
    threads = [
        threading.Thread(target=copy_context().run, args=(labour,), name="resilient-preload", daemon=True)
        for _ in range(count)
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        stop.set()
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, Exception):
            raise result
    return results
