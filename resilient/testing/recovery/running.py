"""What driving a scenario in threads and in tasks have in common."""

from __future__ import annotations

import time
from types import BuiltinFunctionType

from resilient.clock import CLOCK
from resilient.errors import ConfigurationError
from resilient.testing.clocks.virtual_clock import VirtualClock
from resilient.testing.recovery.recording import Recording

#: Real seconds that threads and tasks get to end in, once they were told to, and the shortest wait.
PATIENCE, LEAST = 1.0, 1e-6


class IsAsyncError(Exception):
    """The workload, which looked sync, returned a coroutine."""


def hangs(recording: Recording, name: str) -> None:
    """What was waited for has not returned, and the time is up."""
    recording.timed_out = True
    recording.failed_help(TimeoutError(f"{name} had not returned"))


def check_real_time() -> None:
    """Raise ConfigurationError where time stands still, as freezegun lets it."""
    if VirtualClock.in_use() is None and not isinstance(time.monotonic, BuiltinFunctionType):
        before = CLOCK.monotonic()
        time.sleep(0.001)
        if CLOCK.monotonic() == before:
            raise ConfigurationError(
                "time stands still here (freezegun?), and the scenario would wait for ever; use virtual_time=True, or "
                "let the frozen time tick"
            )


def check_clock() -> None:
    """Raise ConfigurationError where a clock is in use that nobody would let pass."""
    clock = VirtualClock.in_use()
    if clock is not None and not clock.autojump:
        raise ConfigurationError(
            "a VirtualClock is in use that does not jump by itself, and the scenario would wait for ever; "
            "use VirtualClock(autojump=True), or virtual_time=True without a clock of your own"
        )
