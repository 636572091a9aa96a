"""Keeps these tests to runs of this project."""

from pathlib import Path


def pytest_ignore_collect(collection_path: Path, config: object) -> bool | None:
    """Whoever runs a project that this one lies within does not mean its tests."""
    is_ours = config.rootpath == Path(__file__).parent
    return None if is_ours else True
