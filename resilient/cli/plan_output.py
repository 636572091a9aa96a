"""What `resilient plan` writes: a recovery goes on whatever becomes of its output."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from resilient.cli.plan_text import WIDTH


class CommandError(Exception):
    """Something that the person at the keyboard can put right; `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Output:
    """A stream of lines. When nobody reads it any more (`run | head`, a full disk), the rest is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Write a line, and see to it that it arrives now."""
        try:
            self.stream.write(f"{text}\n")
            self.stream.flush()
        except (OSError, ValueError):
            self._drop()

    def _drop(self) -> None:
        # Without this the interpreter would complain when it flushes at its end, and the exit code would change.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def show_anything() -> None:
    """Have characters that a stream cannot write replaced, instead of failing half-way."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def width_of(stream: TextIO) -> int | None:
    """How wide the reader's screen is; None where lines go to a file or another program."""
    try:
        is_terminal = stream.isatty()
    except ValueError:  # closed
        return None
    return shutil.get_terminal_size((WIDTH, 24)).columns if is_terminal else None


def tell(text: str) -> None:
    """Say something on the side, where it does not mix with a document on the standard output."""
    if sys.stderr is not None:
        Output(sys.stderr).write(text)


def sentence(error: BaseException) -> str:
    """What an error says, and what was noted about it on the way."""
    return "\n".join([str(error), *(f"({note})" for note in getattr(error, "__notes__", ()))])


def deliver(text: str, output: str | None) -> None:
    """Print a text that ends with a line break, or write it to a file; CommandError where that fails.

    It is what was asked for: where it cannot be printed, OSError goes on to the end of the command, which says so.
    """
    if output is None:
        sys.stdout.write(text)
        return
    if not output or "\0" in output:
        raise CommandError(f"--output {output!r} is not the name of a file")
    try:
        Path(output).write_text(text, "utf-8")
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror or error}") from None
