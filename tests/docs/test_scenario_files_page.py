"""The page about scenario files has every key, and its example can be loaded."""

import sys
from pathlib import Path
from typing import Any

import pytest

from resilient.testing import load_scenarios
from resilient.testing.files.faults import FAULT
from resilient.testing.files.fields import REQUIRED, Field
from resilient.testing.files.tables import CRITERIA, EXPECTED, EXPERIMENT_SCENARIO, READY_SCENARIO, SCENARIO

from . import pages
from .test_reference import words

PAGE = "scenario-files.md"
EVERYWHERE = ("id", "name", "description", "weight")
TABLES: dict[str, dict[str, Field]] = {
    "any scenario": {name: SCENARIO[name] for name in EVERYWHERE},
    "a scenario": {name: one for name, one in SCENARIO.items() if name not in EVERYWHERE},
    "a fault": FAULT,
    "what is expected": EXPECTED,
    "the success criteria": CRITERIA,
    "a ready scenario": {name: one for name, one in READY_SCENARIO.items() if name not in EVERYWHERE},
    "an experiment's scenario": {name: one for name, one in EXPERIMENT_SCENARIO.items() if name not in SCENARIO},
}
CODE = """
from resilient import retry

def send(): return "ok"
@retry(max_attempts=5, base_delay=0.001)
def place(): return send()
def none_twice(history): return True
"""


def default(field: Field) -> str:
    """A default as a file would have it."""
    if field.default is REQUIRED:
        return "required"
    if field.default is None:
        return ""
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f'`"{field.default}"`' if isinstance(field.default, str) else f"`{field.default!r}`"


@pytest.mark.parametrize("what", TABLES)
def test_keys(what: str) -> None:
    """Each key has its row, with its default; no row is left over."""
    documented = words(PAGE, f"key of {what}")
    assert {name: row[2] for name, row in documented.items()} == {
        name: default(one) for name, one in TABLES[what].items()
    }


def test_every_word_is_there() -> None:
    """The choices of a key are those that its schema has."""
    fault, expected = words(PAGE, "key of a fault"), words(PAGE, "key of what is expected")
    for row, field in (
        (fault["injection_type"], FAULT["injection_type"]),
        (expected["recovery_mode"], EXPECTED["recovery_mode"]),
    ):
        assert row[1] == ", ".join(f'`"{word}"`' for word in field.kind.schema["enum"])


@pytest.mark.parametrize("page", ["reference/scenario-files.md", "how-to/chaos-command.md"])
def test_the_file_on_the_page_works(page: str, tmp_path: Path, monkeypatch: Any) -> None:
    """The file that a page shows can be loaded, and its scenarios pass."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "orders.py").write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (block,) = [one for one in pages.read(pages.DOCS / page)[0] if one.language == "toml"]
    file = tmp_path / "scenarios.toml"
    file.write_text(block.text, encoding="utf-8")
    try:
        for scenario in load_scenarios(file):
            result = scenario.run(seed=1)
            assert result.passed, result.explain()
    finally:
        for name in ("shop", "shop.orders"):
            sys.modules.pop(name, None)
