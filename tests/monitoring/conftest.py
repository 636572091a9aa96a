"""One illness is enough for all tests of the alerts and the dashboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .hospital import Story, watch


@pytest.fixture(scope="package")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """What a Prometheus saw of a process that was well, then sick in every way, then well again."""
    with watch(tmp_path_factory.mktemp("story")) as seen:
        yield seen
