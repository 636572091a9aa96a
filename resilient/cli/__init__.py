"""The command `resilient`: parses, runs one command, and ends without stack traces.

Exit codes: 0 all went well, 1 it did not (with a sentence why), 2 wrong arguments, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from resilient.cli.arguments import build_parser

__all__ = ["main"]

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; wrong arguments leave by `SystemExit(2)`."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.run is None:
        parser.print_help()
        return 0
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write(f"resilient {arguments.command}: stopped by Ctrl-C, nothing is left running\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`resilient demo | head`). Without this the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code
