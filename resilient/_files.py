"""Files that are replaced in one step."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def replace(place: Path, content: bytes) -> None:
    """Put a file in the place of the old one, with its rights: a reader sees the old one or the new one.

    A link stays one. Raises OSError where it cannot be written.
    """
    target = Path(os.path.realpath(place))
    new = draft(target)
    try:
        with open(new, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(OSError):  # there was no file
            os.chmod(new, target.stat().st_mode & 0o7777)
        os.replace(new, target)
    finally:
        with contextlib.suppress(OSError):
            new.unlink()


def draft(place: Path) -> Path:
    """A new name beside the file that a place leads to; not made of its name, which may be as long as names can be."""
    return Path(os.path.realpath(place)).with_name(f".{secrets.token_hex(8)}.part")
