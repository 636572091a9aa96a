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
# Processor time: a busy machine stretches it less than the time on the wall.
CHILD = "import time; start = time.process_time(); import {}; print(time.process_time() - start)"


def seconds(module: str, elsewhere: str) -> float:
    """One import in one new interpreter, with the compiled files in place."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-s", "-c", CHILD.format(module)]
    done = subprocess.run(command, cwd=elsewhere, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return float(done.stdout)


def measure(modules: Sequence[str], judged: str, repeats: int, rng: random.Random) -> list[Row]:
    """Every round imports every module in a new order, and wrapt right beside each."""
    pairs = [*modules, "wrapt"]
    taken: dict[str, list[float]] = {module: [] for module in pairs}
    beside: dict[str, list[float]] = {module: [] for module in pairs}
    with tempfile.TemporaryDirectory() as elsewhere:
        for module in pairs:
            seconds(module, elsewhere)  # writes the .pyc files, warms the file cache
        for _ in range(repeats):
            for module in rng.sample(pairs, len(pairs)):
                for imported, readings in rng.sample([(module, taken), ("wrapt", beside)], 2):
                    readings[module].append(seconds(imported, elsewhere))
    rows = []
    for module in pairs:
        low, middle, high = paired(taken[module], beside[module])
        rows.append(
            Row(
                "import",
                PATTERN,
                module,
                "import wrapt",
                middle,
                LIMIT if module == judged else None,
                low=low,
                high=high,
                absolute=median(taken[module]) * 1000,
                absolute_unit="ms",
            )
        )
    return rows
