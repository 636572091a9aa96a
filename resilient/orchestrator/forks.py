"""What is told of a fork: a child process has no threads but one, and nothing that is under way is its own."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress

from resilient._registry import registry


class Survivor:
    """What has something to put right in a forked child."""

    def before_fork(self) -> bool:
        """Keep the process from forking at a bad moment; whether `after_fork_in_parent` is to be called."""
        return False

    def after_fork_in_parent(self) -> None:
        """Go on, in the process that forked."""

    def after_fork(self) -> None:
        """Begin anew, in the child."""
        raise NotImplementedError


_survivors: weakref.WeakSet[Survivor] = weakref.WeakSet()
_held: dict[int, list[Survivor]] = {}


def tell_of_forks(survivor: Survivor) -> None:
    """Tell it of every fork, as long as it lives."""
    _survivors.add(survivor)


def _before_fork() -> None:
    held = _held[threading.get_ident()] = []
    for survivor in list(_survivors):
        if survivor.before_fork():
            held.append(survivor)


def _after_fork_in_parent() -> None:
    for survivor in _held.pop(threading.get_ident(), ()):
        survivor.after_fork_in_parent()


def _after_fork() -> None:
    _held.clear()
    for survivor in list(_survivors):
        with suppress(Exception):  # a journal out of reach; its next use says so
            survivor.after_fork()


registry.fork_hooks.append(_after_fork)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
