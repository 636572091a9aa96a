"""What the commands of `resilient plan` agree on, and how values given on the command line are read."""

from __future__ import annotations

import json
from typing import Any

JOURNAL = "recovery.db"
LEASE = 10.0
#: 2 says that something could not be undone, so wrong arguments have a code of their own here.
INVALID = 3


def parsed_json(text: str) -> Any:
    """The value of a JSON document; ValueError, which does not quote it, where it is none."""
    return json.loads(text, parse_constant=_refused)


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
