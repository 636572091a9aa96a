"""The numbers of all policies for Prometheus and OpenTelemetry.

from resilient import metrics

metrics.install()

Nothing has to be wired: the policies count by themselves, and are read when somebody asks for the numbers.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from resilient.metrics.catalogue import CATALOGUE, Definition
from resilient.metrics.prometheus import install, uninstall

if _TYPE_CHECKING:
    from resilient.metrics.otel import install_otel, uninstall_otel

__all__ = ["CATALOGUE", "Definition", "install", "install_otel", "uninstall", "uninstall_otel"]


def __getattr__(name: str) -> object:
    if name not in ("install_otel", "uninstall_otel"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("resilient.metrics.otel"), name)
