"""One at a time: whoever reads a file to write it anew must not lose what another step writes meanwhile."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from resilient.orchestrator.executors.failures import pause
from resilient.orchestrator.model import RecoveryContext

_LOOK = 0.005
_guard = threading.Lock()
_taken: set[Path] = set()


@contextlib.contextmanager
def turn(folder: Path, context: RecoveryContext) -> Iterator[None]:
    """Be the only step that changes files in this folder, of this process and of others on this machine.

    Raises ActionStoppedError where the step is stopped before it is its turn.
    """
    while not _take(folder):
        pause(context, _LOOK)
    try:
        with _lock_of(folder, context):
            yield
    finally:
        with _guard:
            _taken.discard(folder)


def _take(folder: Path) -> bool:
    with _guard:
        if folder in _taken:
            return False
        _taken.add(folder)
        return True


@contextlib.contextmanager
def _lock_of(folder: Path, context: RecoveryContext) -> Iterator[None]:
    """Keep other processes out by a lock on the folder itself, which leaves nothing behind."""
    try:
        import fcntl
    except ImportError:  # Windows, where a folder cannot be locked
        yield
        return
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:  # there is no such folder, which is told where the file is to be written
        yield
        return
    try:
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pause(context, _LOOK)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(opened)


def _forget() -> None:
    """In a forked child none of those who held a turn go on."""
    _taken.clear()
    if _guard.locked():
        _guard.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
