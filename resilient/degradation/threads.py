"""A few threads for a list of things."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any


def in_threads(work: Callable[[Any], Any], things: list[Any], most: int) -> list[Any]:
    """What `work` returns for each, or the name of the error it raises, in at most so many threads at once.

    SystemExit and the like end it all, and are raised. The threads are daemons: Ctrl-C ends the wait at once, and
    nothing that hangs keeps the interpreter from exiting.
    """
    results: list[Any] = [None] * len(things)
    todo: SimpleQueue[int] = SimpleQueue()
    for place in range(len(things)):
        todo.put(place)
    stop = threading.Event()
    ended: list[BaseException] = []

    def labour() -> None:
        while not stop.is_set():
            try:
                place = todo.get_nowait()
            except Empty:
                return
            try:
                results[place] = work(things[place])
            except Exception as error:
                results[place] = type(error).__name__  # not itself: its traceback has this very list
            except BaseException as error:
                ended.append(error)
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
    if ended:
        raise ended.pop()
    return results
