"""What `import resilient` costs in a fresh interpreter, beside `import wrapt`."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import resilient

from .harness import Row, paired

PATTERN = "first import"
LIMIT = 1.30
ROOT = Path(resilient.__file__).parents[1]  # the package that runs here, from its source or installed
CHILD = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def seconds(module: str, elsewhere: str) -> float:
    """One import in one new interpreter, with the compiled files in place."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-s", "-c", CHILD.format(module)]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    return float(done.stdout)


def measure(modules: Sequence[str], judged: str, repeats: int, rng: random.Random) -> list[Row]:
    """Every round imports every module once, in a new order."""
    order = [*modules, "wrapt"]
    taken: dict[str, list[float]] = {module: [] for module in order}
    with tempfile.TemporaryDirectory() as elsewhere:
        for module in order:
            seconds(module, elsewhere)  # writes the .pyc files, warms the file cache
        for _ in range(repeats):
            for module in rng.sample(order, len(order)):
                taken[module].append(seconds(module, elsewhere))
    rows = []
    for module in order:
        low, middle, high = paired(taken[module], taken["wrapt"])
        limit = LIMIT if module == judged else None
        rows.append(
            Row(
                "import",
                PATTERN,
                module,
                "import wrapt",
                middle,
                limit,
                low=low,
                high=high,
                absolute=median(taken[module]) * 1000,
                absolute_unit="ms",
            )
        )
    return rows
