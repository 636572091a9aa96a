"""How the shipped executors end where they do not succeed, and how they notice that nobody waits for them any more."""

from __future__ import annotations

import time

from resilient.errors import ResilienceError
from resilient.orchestrator.model import RecoveryContext

#: Seconds between two looks at whether the step was stopped.
LOOK = 0.05

#: Of what others say, so many characters go into an error.
LONGEST = 2000


class ActionFailedError(ResilienceError, RuntimeError):
    """What the step was to do did not come about; the message says what, and why. Trying again may help."""

    retryable = True


class BackupGoneError(ActionFailedError):
    """What was kept for the rollback is not there any more, so that nothing can be brought back."""

    retryable = False


class ActionStoppedError(ResilienceError):
    """The step was cancelled, or its time is over, and the executor has stopped half-way."""


def check(context: RecoveryContext) -> None:
    """Raise ActionStoppedError where nobody waits for this attempt any more."""
    if context.cancelled:
        raise ActionStoppedError(f"{context.step_id}: stopped half-way, as the step was cancelled or its time is over")


def pause(context: RecoveryContext, seconds: float) -> None:
    """Sleep so many seconds; raises ActionStoppedError as soon as nobody waits for this attempt any more."""
    until = time.monotonic() + seconds
    check(context)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(LOOK, left))
        check(context)


def ending(text: str, longest: int = LONGEST) -> str:
    """The last characters of a text, with a mark where something was left out."""
    text = text.strip()
    return text if len(text) <= longest else f"...{text[-longest:]}"


def reason(error: BaseException) -> str:
    """An exception in one line: its type and what it says."""
    said = " ".join(str(error).split())
    return ending(f"{type(error).__name__}: {said}" if said else type(error).__name__, 300)
