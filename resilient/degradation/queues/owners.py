"""Which process works on a call, and whether that process is certainly gone."""

from __future__ import annotations

import os
import platform
import uuid
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")


class Owner(NamedTuple):
    """One claim on a call: where and by which process, `started` telling apart processes of the same number.

    It promises a sign of life within each `lease`, by which others judge it, whatever their own.
    """

    machine: str
    pid: int
    started: str
    claim: str
    lease: float = 30.0


def new_owner(lease: float) -> Owner:
    """A claim of this process."""
    return Owner(_machine(), os.getpid(), _own_start(), uuid.uuid4().hex, lease)


def certainly_gone(owner: Owner) -> bool:
    """Whether the process has ended. False where that cannot be known: then only its silence tells."""
    if not owner.machine or not owner.started or owner.machine != _machine():
        return False
    try:
        state, started = _process(owner.pid)
    except (FileNotFoundError, ProcessLookupError):
        return True
    except (OSError, IndexError):
        return False
    return state in ("Z", "X") or started != owner.started


def _machine() -> str:
    """This boot of this machine and its space of process numbers (a container has its own); empty if unknown."""
    try:
        return _read_machine()
    except OSError:
        return ""


# What cannot be read now, such as for want of file descriptors, can be read later: only answers are remembered.


@lru_cache(maxsize=1)
def _read_machine() -> str:
    boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{platform.node()} {boot} {os.readlink(_PROC / 'self/ns/pid')}"


def _own_start() -> str:
    try:
        return _read_start(os.getpid())
    except (OSError, IndexError):
        return ""


@lru_cache(maxsize=1)
def _read_start(pid: int) -> str:
    return _process(pid)[1]


def _process(pid: int) -> tuple[str, str]:
    """State and start time of a process."""
    fields = (_PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return fields[0], fields[19]
