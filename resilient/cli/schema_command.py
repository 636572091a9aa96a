"""`resilient schema`: the JSON Schema of a file of strategies, for editors that complete and check as one types."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from resilient.errors import ConfigurationError


def run_schema(output: str | None) -> int:
    """Print the schema, or write it to a file; 0 when that went well, else 1."""
    from resilient import strategies

    try:
        text = f"{json.dumps(strategies.schema(), indent=2)}\n"
    except ConfigurationError as error:
        return _fail(str(error))
    if output == "":
        return _fail("--output needs the name of a file")
    if output is None:
        sys.stdout.write(text)
        return 0
    try:
        Path(output).write_text(text, "utf-8")
    except ValueError as error:  # a null character
        return _fail(f"{output!r} cannot be written: {error}")
    except OSError as error:
        return _fail(f"{output} cannot be written: {error.strerror or error}")
    return 0


def _fail(why: str) -> int:
    sys.stderr.write(f"resilient schema: {why}\n")
    return 1
