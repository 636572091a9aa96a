"""Where a picture goes: looked at before the work it shows begins, and filled in one step when it is done."""

from __future__ import annotations

import os
from pathlib import Path

from resilient._files import draft, replace
from resilient.errors import ConfigurationError


def place_for(path: str) -> Path:
    """The place of an SVG file that can be written; ConfigurationError says why it cannot.

    A file is made beside it and taken away again, since rights alone do not tell (a full disk, a read-only one).
    """
    if not path or "\0" in path:
        raise ConfigurationError(f"{path!r} is not the name of a file; give one that ends in .svg")
    place = Path(path)
    # Path.is_dir raises OSError for names that are too long.
    if os.path.isdir(place):
        raise ConfigurationError(f"{path} is a directory; name a file in it that ends in .svg")
    if place.suffix.lower() != ".svg":
        raise ConfigurationError(f"{path} must end in .svg, as that is what will be in it")
    if not os.path.isdir(place.parent):
        raise ConfigurationError(f"{path}: there is no directory {place.parent}; make it first")
    trial = draft(place)
    try:
        place.exists()  # an error if its name is too long
        with open(trial, "xb"):
            pass
        trial.unlink()
    except OSError as error:
        why = error.strerror or error
        raise ConfigurationError(f"{path} cannot be written: {why}; name a file in a directory of yours") from None
    return place


def write(place: Path, text: str) -> None:
    """Put the text in the place in one step. Raises OSError where that fails."""
    replace(place, text.encode())
