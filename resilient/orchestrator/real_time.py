"""Time that nobody exchanges: recoveries wait for real processes, and leases are read by others.

A frozen or virtual clock would stop a recovery for good, which waits in real threads.
"""

from __future__ import annotations

import time

# In a tuple, since freezegun exchanges functions of `time` wherever a module has them under a name.
_MONOTONIC = (time.monotonic,)


def monotonic() -> float:
    """Seconds since some moment of this boot of this machine, the same one for all its processes."""
    return _MONOTONIC[0]()
