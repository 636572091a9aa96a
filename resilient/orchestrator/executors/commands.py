"""Running programs: from lists of words, never through a shell, and ended with all their children when stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from resilient.orchestrator.executors.failures import LONGEST, ActionFailedError, check
from resilient.orchestrator.model import RecoveryContext

if TYPE_CHECKING:
    from subprocess import Popen

#: Seconds that a program has to end by itself after the first signal.
_GRACE = 0.1


class Ended(NamedTuple):
    """How a program ended: its exit code (negative: the signal that ended it), and the last of what it wrote."""

    code: int
    output: str
    errors: str


def run(
    words: Sequence[str],
    context: RecoveryContext,
    *,
    environment: Mapping[str, str] | None = None,
    cwd: str | None = None,
    hidden: Sequence[str] = (),
    first: int = signal.SIGTERM,
) -> Ended:
    """Run a program and return how it ended.

    It reads nothing, and writes to files, so that neither much output nor a daemon that it leaves behind holds it up.
    `environment` is added to this process's own. `hidden` are texts that are taken out of what it wrote.
    `first` is the signal that asks it to end by itself, before SIGKILL.
    Raises ActionFailedError where it cannot be started; where the step is stopped, ActionStoppedError after the end of
    it and its children.
    """
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        check(context)
        try:
            child: Popen[bytes] = subprocess.Popen(  # noqa: S603 - what the plan says, word by word
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            where = f" in the directory {cwd}" if error.filename == cwd and cwd is not None else ""
            raise ActionFailedError(f"{words[0]} cannot be started{where}: {error.strerror or error}") from None
        code = _wait(child, context, first)
        return Ended(code, _tail(output, hidden), _tail(errors, hidden))


def succeeded(words: Sequence[str], context: RecoveryContext, **options: Any) -> Ended:
    """Like `run`, but an exit code other than 0 is an ActionFailedError with the last lines of its errors."""
    ended = run(words, context, **options)
    if ended.code != 0:
        how = f"was ended by signal {-ended.code}" if ended.code < 0 else f"ended with exit code {ended.code}"
        said = f": {ended.errors}" if ended.errors else ", and wrote no errors"
        raise ActionFailedError(f"{os.path.basename(words[0])} {how}{said}")
    return ended


def _wait(child: Popen[bytes], context: RecoveryContext, first: int) -> int:
    try:
        pause = 0.001
        while (code := child.poll()) is None:
            check(context)
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return code
    except BaseException:
        _end(child, first)
        raise


def _end(child: Popen[bytes], first: int) -> None:
    """End a program and its children."""
    if sys.platform == "win32":
        child.kill()
    else:
        _signal_group(child, first)
        until = time.monotonic() + _GRACE
        while time.monotonic() < until and not _has_ended(child):
            time.sleep(0.005)
        _signal_group(child, signal.SIGKILL)
    child.wait()


def _signal_group(child: Popen[bytes], number: int) -> None:
    # It has not been waited for, so that its number, which is the group's, cannot belong to anybody else.
    if sys.platform != "win32" and child.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)


def _has_ended(child: Popen[bytes]) -> bool:
    """Whether the program has ended, without taking note of it."""
    if sys.platform == "win32" or not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _tail(file: BinaryIO, hidden: Sequence[str]) -> str:
    size = file.seek(0, os.SEEK_END)
    # Twice as much, so that no half of a hidden text is left at the beginning.
    begin = max(0, size - 2 * LONGEST)
    file.seek(begin)
    text = file.read(2 * LONGEST).decode("utf-8", "replace")
    for secret in sorted(hidden, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    text = text.strip()
    return text if begin == 0 and len(text) <= LONGEST else f"...{text[-LONGEST:]}"
