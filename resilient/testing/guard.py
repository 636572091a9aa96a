"""Refusing to break what is in production."""

from __future__ import annotations

import os

from resilient.errors import ResilienceError

VARIABLE = "RESILIENT_ENV"


class InjectionRefusedError(ResilienceError):
    """Faults were to be injected where the environment says production."""


def check_allowed(allow_in_production: bool) -> None:
    """Raise InjectionRefusedError where the environment says production, unless that was said to be intended."""
    if os.environ.get(VARIABLE, "").strip().lower() == "production" and allow_in_production is not True:
        raise InjectionRefusedError(
            f"{VARIABLE}=production: no faults are injected here; pass allow_in_production=True if you mean it"
        )
