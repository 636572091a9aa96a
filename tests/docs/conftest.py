"""Pages keep their registry from one block to the next, so the fixture of the other tests stands aside."""

import pytest


@pytest.fixture(autouse=True)
def fresh_registry() -> None:
    """See `Reader` in test_examples.py, which opens one registry per page."""
