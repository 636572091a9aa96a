"""Where seeds come from that nobody gave, and how to get the same ones again."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from resilient.errors import ConfigurationError

VARIABLE = "RESILIENT_SEED"

_lock = threading.Lock()
_made = 0
_base: int | None = None
_session: tuple[str, str] | None = None


def fresh() -> int:
    """A seed for what was given none. The process has one of its own, or the one of RESILIENT_SEED, or a test's.

    All further ones follow from it, so that one number and one command bring all of them again.
    """
    global _made
    with _lock:
        number, _made = _made, _made + 1
        start = _process_seed() if _session is None else _session[0]
    return start if isinstance(start, int) and number == 0 else zlib.crc32(f"{start}:{number}".encode())


def _process_seed() -> int:
    """The seed of the process; the caller has the lock."""
    global _base  # noqa: PLW0603 - one for the process
    if _base is None:
        asked = os.environ.get(VARIABLE, "").strip()
        if asked and not asked.removeprefix("-").isdecimal():
            raise ConfigurationError(f"{VARIABLE}={asked!r}: must be a whole number")
        _base = int(asked) if asked else secrets.randbits(32)
    return _base


@contextmanager
def session(seed: str, command: str) -> Iterator[None]:
    """Draw the seeds of a block from this one; `command` is what repeats the block."""
    global _session, _made
    before, _session, _made = (_session, _made), (seed, command), 0
    try:
        yield
    finally:
        _session, _made = before


def command(*, given: bool = False) -> str:
    """What to type for the same faults again; `given`: their seeds are in the program, which needs no other."""
    if _session is not None:
        return _session[1]
    # As it was typed: `sys.argv` lacks the interpreter's own options, and what follows `-c` or `-m`.
    program = shlex.join([os.path.basename(sys.executable) or "python", *sys.orig_argv[1:]])
    if given:
        return program
    with _lock:
        return f"{VARIABLE}={_process_seed()} {program}"
