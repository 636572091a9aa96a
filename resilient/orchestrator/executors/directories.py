"""Emptying a directory without ever leaving it: no link is followed, also none that is made while this runs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from resilient.orchestrator.executors.failures import ActionFailedError, check
from resilient.orchestrator.model import RecoveryContext


class Cleared:
    """How many entries are gone, and how many bytes their files had."""

    def __init__(self) -> None:
        self.entries = 0
        self.bytes = 0


def place_of(path: str, root: str) -> tuple[Path, Path]:
    """The directory and the root that it is strictly inside of, both without links.

    A relative path counts from the root. ActionFailedError where the root is none to clear below, or the path is not
    inside it.
    """
    if not os.path.isabs(root):
        raise ActionFailedError(f"root={root}: must be an absolute path")
    top = Path(os.path.realpath(root))
    if not top.is_dir():
        raise ActionFailedError(f"root={root}: there is no such directory")
    if top == Path(top.anchor):
        raise ActionFailedError(f"root={root}: must not be the root of the file system")
    for sacred, what in ((Path.home(), "the home directory"), (Path.cwd(), "the current directory")):
        held = Path(os.path.realpath(sacred))
        if held == top and what == "the home directory":
            raise ActionFailedError(f"root={root}: must not be the home directory; name one inside it")
        place = Path(os.path.realpath(top / path))
        if held.is_relative_to(place) and held != Path(held.anchor):
            raise ActionFailedError(f"path={path}: {what} is inside it")
    if place == top or not place.is_relative_to(top):
        raise ActionFailedError(f"path={path}: leads to {place}, which is not inside the root {top}")
    return place, top


def clear(place: Path, top: Path, context: RecoveryContext) -> Cleared:
    """Remove everything in a directory below `top`; the directory itself stays.

    Raises FileNotFoundError where there is none, and ActionFailedError where something cannot be removed; what was
    removed until then is gone.
    """
    if os.unlink not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
        raise ActionFailedError("cache_clear with path: this operating system cannot clear a directory safely")
    cleared = Cleared()
    opened = _open(os.fspath(top), None)
    try:
        # One name after the other: a link that takes the place of one of them meanwhile is not followed.
        for name in place.relative_to(top).parts:
            below = _open(name, opened)
            os.close(opened)
            opened = below
        _empty(opened, os.fstat(opened).st_dev, place, cleared, context)
    finally:
        os.close(opened)
    return cleared


def _open(name: str, folder: int | None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)


def _empty(folder: int, device: int, place: Path, cleared: Cleared, context: RecoveryContext) -> None:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        check(context)
        try:
            _remove(name, folder, device, place / name, cleared, context)
        except FileNotFoundError:  # somebody else was faster
            continue
        except OSError as error:
            raise ActionFailedError(f"{place / name} cannot be removed: {error.strerror or error}") from None


def _remove(name: str, folder: int, device: int, place: Path, cleared: Cleared, context: RecoveryContext) -> None:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=folder)
        cleared.bytes += found.st_size if stat.S_ISREG(found.st_mode) else 0
    else:
        if found.st_dev != device:
            raise ActionFailedError(f"{place} is another file system, mounted there; it is left alone")
        below = _open(name, folder)
        try:
            _empty(below, device, place, cleared, context)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=folder)
    cleared.entries += 1
