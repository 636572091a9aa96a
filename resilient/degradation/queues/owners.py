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
    """One claim on a call: where and by which process, `started` telling apart processes of the same number."""

    machine: str
    pid: int
    started: str
    claim: str


def new_owner() -> Owner:
    """A claim of this process."""
    return Owner(_machine(), os.getpid(), _process(os.getpid())[1], uuid.uuid4().hex)


def certainly_gone(owner: Owner) -> bool:
    """Whether the process has ended. False where that cannot be known: then only its silence tells."""
    if not owner.machine or owner.machine != _machine():
        return False
    state, started = _process(owner.pid)
    return state in ("", "Z", "X") or started != owner.started


@lru_cache(maxsize=1)
def _machine() -> str:
    """This boot of this machine and its space of process numbers (a container has its own); empty if unknown."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{platform.node()} {boot} {os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, str]:
    """State and start time of a process, empty if there is none."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""
