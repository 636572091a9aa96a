"""Links lead somewhere, and every page can be found from the index."""

from pathlib import Path

import pytest

from . import pages

#: Written by `tox -e bench -- --markdown`; a tree that was never measured lacks it.
GENERATED = {pages.DOCS / "explanation" / "speed.md"}
LINKS = [(page, target) for page in pages.PAGES for target in pages.links(page)]


def resolve(page: Path, target: str) -> tuple[Path, str]:
    """The file and the fragment that a link on `page` names."""
    path, _, fragment = target.partition("#")
    return ((page.parent / path).resolve() if path else page), fragment


@pytest.mark.parametrize(("page", "target"), LINKS, ids=[f"{page.stem}:{target}" for page, target in LINKS])
def test_link(page: Path, target: str) -> None:
    """A link names a file of the repository, and a heading in it if it has a fragment."""
    path, fragment = resolve(page, target)

    assert path.exists() or path in GENERATED
    if fragment:
        assert fragment in pages.anchors(path)


def test_every_page_is_reachable() -> None:
    """Following links from docs/index.md finds all of docs/."""
    found: set[Path] = set()
    ahead = [pages.DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        if page in found or page.suffix != ".md" or not page.exists():
            continue
        found.add(page)
        ahead += [resolve(page, target)[0] for target in pages.links(page)]

    assert set(pages.DOCS.rglob("*.md")) <= found


def test_readme_leads_to_the_index() -> None:
    """The documentation is one link away from the README."""
    readme = pages.ROOT / "README.md"

    assert "docs/index.md" in pages.links(readme)
