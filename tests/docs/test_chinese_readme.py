"""The Chinese README says what the English one says: the same code, the same commands, the same links in its table."""

import re
from pathlib import Path

from . import pages
from .test_links import resolve
from .test_reference import tables

ENGLISH = pages.ROOT / "README.md"
CHINESE = pages.DOCS / "zh" / "README.md"


def targets(page: Path) -> list[tuple[Path, str]]:
    """Where the links of a page lead, those between the two pages left out."""
    found = [resolve(page, target) for target in pages.links(page)]
    return sorted(one for one in found if one[0] not in (ENGLISH, CHINESE))


def test_blocks() -> None:
    """Code, output and commands are those of the English page, in the same order."""
    shown = {page: [(one.language, one.text, one.output) for one in pages.read(page)[0]] for page in (ENGLISH, CHINESE)}

    assert shown[CHINESE] == shown[ENGLISH]


def test_links() -> None:
    """Each link of the English page is there as often, and no other; each page leads to the other one."""
    assert targets(CHINESE) == targets(ENGLISH)
    assert "docs/zh/README.md" in pages.links(ENGLISH)
    assert "../../README.md" in pages.links(CHINESE)


def test_table() -> None:
    """The table has the same rows; what is a name in English is the same name in Chinese."""
    (english,), (chinese,) = tables(ENGLISH), tables(CHINESE)

    assert len(chinese) == len(english)
    for ours, theirs in zip(chinese, english, strict=True):
        assert re.findall("`[^`]+`", ours[0]) == re.findall("`[^`]+`", theirs[0])
        assert len(ours) == len(theirs)


def test_it_is_chinese() -> None:
    """Each line of prose has Chinese in it; none was left in English."""
    lines = [line for line in pages.read(CHINESE)[1].splitlines() if line.strip("|- ")]

    assert [line for line in lines if not re.search("[\u4e00-\u9fff]", line)] == ["# resilient"]
