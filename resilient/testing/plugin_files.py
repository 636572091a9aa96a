"""The files that the pytest plugin writes for tests: names, their folder, and what if there is none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

# File systems take 255 bytes; a suffix and the hash are to be added.
_LONGEST = 160


def prepared(folder: str) -> str:
    """The absolute path of the folder for reports, which is made; pytest.UsageError where that cannot be."""
    path = Path(folder).absolute()  # tests may go elsewhere
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise pytest.UsageError(f"--resilience-report={folder}: the folder cannot be made: {why}") from None
    return str(path)


def name_of(test: str) -> str:
    """A name for files about a test: one that no other test has, and every file system takes."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", test)
    if plain == test.replace("::", "_", 1) and len(plain) <= _LONGEST:
        return plain
    return f"{plain[:_LONGEST]}-{hashlib.sha256(test.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"


def write(item: pytest.Item, folder: str, suffix: str, save: Callable[[Path], object]) -> None:
    """Have a file about a test written; one that cannot be is a warning, and no reason to end the whole run."""
    path = Path(folder) / f"{name_of(item.nodeid)}{suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path)
    except OSError as error:
        # Where warnings are errors, this one would end the run instead of a test.
        with suppress(pytest.PytestWarning):
            item.warn(pytest.PytestWarning(f"{path} cannot be written: {error.strerror or error}"))
