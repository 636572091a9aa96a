"""The drill of the page about game days ends by each of the things that the page says end it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from resilient import registry
from resilient.testing import InjectionRefusedError, faults, inject, instant

from . import pages

PAGE = pages.DOCS / "how-to" / "game-day.md"


@pytest.fixture(scope="module")
def definitions() -> Any:
    """The names that the page defines, in a registry of their own."""
    names: dict[str, Any] = {"__name__": "shop", "print": lambda *_, **__: None}
    with registry.scoped():
        for block in pages.read(PAGE)[0]:
            if block.language == "python":
                exec(compile(block.text, block.id, "exec"), names)  # noqa: S102 - the page is what is tested
        yield names


@pytest.fixture
def page(definitions: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same, with a closed breaker, in a folder without a switch."""
    monkeypatch.chdir(tmp_path)
    registry.circuit_breakers["stock"].reset()
    return definitions


def drill(page: Any, visit: str, **options: Any) -> dict[str, Any]:
    """What the page's drill records, in virtual time."""
    settings = {"rate": 0.5, "seconds": 20, "bearable": 0.9} | options
    with instant():
        return dict(asyncio.run(page["drill"](page["Visitors"](page[visit], 20), faults.NetworkFailure(), **settings)))


def test_it_ends_by_itself(page: Any) -> None:
    """A drill that nobody stops lasts as long as was asked, and the fault is gone after it."""
    record = drill(page, "in_stock")

    assert record["ended by"] == "time"
    assert record["hit"] > 0
    with instant():
        assert asyncio.run(page["in_stock"]()) == "5 copies"


def test_the_guard_ends_it(page: Any) -> None:
    """Where visitors suffer more than is bearable, the fault is taken away, and fewer calls meet it."""
    guarded, unguarded = drill(page, "label"), drill(page, "label", bearable=0.0)

    assert guarded["ended by"].startswith("guard")
    assert unguarded["ended by"] == "time"
    assert unguarded["lowest"] < 0.5 < guarded["lowest"]


def test_the_guard_can_be_tried(page: Any) -> None:
    """With the limit that the page names, the guard ends the drill at once."""
    assert "`bearable=1.01`" in PAGE.read_text(encoding="utf-8")
    assert drill(page, "in_stock", bearable=1.01)["ended by"] == "guard after 0 s"


def test_the_switch_ends_it(page: Any) -> None:
    """A file that anybody creates ends it, however well visitors are."""
    Path(page["STOP"]).touch()

    assert drill(page, "in_stock")["ended by"] == "guard after 0 s"


def test_nothing_is_broken_without_a_steady_state(page: Any) -> None:
    """Where visitors are not well before the drill, it is not begun."""
    with inject(page["label"], faults.NetworkFailure(), rate=0.5, seed=1):
        record = drill(page, "label")

    assert "nothing was broken" in record["ended by"]
    assert "hit" not in record


def test_production_refuses(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment says production, the drill of the page does not begin."""
    monkeypatch.setenv("RESILIENT_ENV", "production")

    with pytest.raises(InjectionRefusedError, match="allow_in_production=True"):
        drill(page, "in_stock")
