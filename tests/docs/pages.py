"""What the documentation contains: pages, fenced blocks, headings and links."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,}) *(?P<language>[^\s`]*)[^`]*$")
HEADING = re.compile(r"^#{1,6} +(?P<title>.+?) *#*$")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its first line of text, counted from 1."""

    page: Path
    line: int
    language: str
    text: str
    output: str | None = None

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def read(page: Path) -> tuple[tuple[Block, ...], str]:
    """The blocks of a page, and its prose with the blocks left out."""
    blocks: list[Block] = []
    prose: list[str] = []
    fence: re.Match[str] | None = None
    body: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if fence is None:
            fence = FENCE.match(line)
            body = []
            if fence is None:
                prose.append(line)
        elif line.strip() == fence["ticks"]:
            text = "".join(row.removeprefix(fence["indent"]) + "\n" for row in body)
            _append(blocks, Block(page, number - len(body), fence["language"], text))
            fence = None
        else:
            body.append(line)
    assert fence is None, f"{page}: a block is never closed"
    return tuple(blocks), "\n".join(prose)


def _append(blocks: list[Block], block: Block) -> None:
    """Add a block; one tagged `output` belongs to the block before it, as what that one prints."""
    if block.language != "output":
        blocks.append(block)
        return
    assert blocks, f"{block.id}: output of nothing"
    before = blocks[-1]
    assert before.output is None, f"{block.id}: a second output"
    blocks[-1] = Block(before.page, before.line, before.language, before.text, block.text)


def blocks(language: str) -> list[Block]:
    """Every block in `language`, in the order a reader meets them."""
    return [block for page in PAGES for block in read(page)[0] if block.language == language]


def anchors(page: Path) -> set[str]:
    """The fragments that a link into `page` may name, as GitHub makes them from headings."""
    found: dict[str, int] = {}
    names: set[str] = set()
    for line in read(page)[1].splitlines():
        if heading := HEADING.match(line):
            slug = re.sub(r"[^\w\- ]", "", heading["title"].lower()).replace(" ", "-")
            count = found.get(slug, 0)
            found[slug] = count + 1
            names.add(f"{slug}-{count}" if count else slug)
    return names


def links(page: Path) -> list[str]:
    """The targets of a page's links, those to other sites left out."""
    targets = [match["target"] for match in LINK.finditer(read(page)[1])]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]
