"""The command `resilient`: parses, runs one command, and ends without stack traces.

Exit codes: 0 all went well, 1 it did not (with a sentence why), 2 wrong arguments, 130 stopped by Ctrl-C.
Those of `resilient plan` are its own: 2 says there that a rollback failed, and 3 that something is invalid.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from resilient.cli.arguments import build_parser
from resilient.cli.codes import INTERRUPTED

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; wrong arguments leave by `SystemExit(2)`."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.run is None:
        parser.print_help()
        return 0
    try:
        if sys.stdout is None:  # closed by whoever started this
            raise OSError("standard output is closed")
        code = int(arguments.run(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write(f"resilient {arguments.command}: stopped by Ctrl-C, nothing is left running\n")
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # the reader has gone (`resilient demo | head`)
        return 1
    except OSError as error:  # a full disk
        _drop_output()
        if sys.stderr is not None:
            sys.stderr.write(
                f"resilient {arguments.command}: the output cannot be written: {error.strerror or error}\n"
            )
        return 1
    return code


def _drop_output() -> None:
    """Lose what is still to be written. Without this the interpreter would complain when it flushes."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
