"""What every test folder shares: an empty registry per test, and the promise that the wheel is what runs."""

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import resilient

# Shared machines stall for longer than any deadline that would be worth setting.
hypothesis.settings.register_profile("default", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("default")


def pytest_report_header() -> str:
    return f"resilient: {Path(resilient.__file__).parent}"


def pytest_configure() -> None:
    """Under tox, refuse to test anything but the installed wheel."""
    site = Path(sysconfig.get_path("purelib"))
    if "TOX_ENV_NAME" in os.environ and site not in Path(resilient.__file__).parents:
        raise pytest.UsageError(f"resilient comes from {resilient.__file__}, not from {site}")


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    """Names are process-wide; no test meets those of another."""
    with resilient.registry.scoped():
        yield
