"""How a degradation asks its manager whether to spare the service, and tells it of outcomes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from resilient.events import log_failure

if TYPE_CHECKING:
    from resilient.degrade.config import Manager


_log = logging.getLogger("resilient.degrade")


class Health(Protocol):
    """The health of one service, as the layers of `@degrade` read it.

    gate: whether to ask `admit()` before a real call; watch: whether `succeeded` is to be called; epoch: handed back
    with the outcome of a call, so that one that began in another age is dropped; calls: counted by the layers;
    strict: whether a spared service must not be called even where there is no other answer.
    """

    gate: bool
    watch: bool
    epoch: int
    calls: int

    @property
    def strict(self) -> bool: ...
    def admit(self) -> bool: ...
    def failed(self, epoch: int) -> object: ...
    def succeeded(self, epoch: int) -> object: ...


class ReportedHealth:
    """The same through a manager that has nothing but `is_degraded` and `record`."""

    __slots__ = ("_manager", "_service", "calls")
    gate = watch = True
    strict = False
    epoch = 0

    def __init__(self, manager: Manager, service: str) -> None:
        self._manager = manager
        self._service = service
        self.calls = 0

    def admit(self) -> bool:
        """Whether the service may be called; also where the manager fails to say."""
        try:
            return not self._manager.is_degraded(self._service)
        except Exception:
            self._failed("the manager failed to say whether %s is degraded")
            return True

    def failed(self, epoch: int) -> None:
        """Report an error."""
        self._record(False)

    def succeeded(self, epoch: int) -> None:
        """Report a success."""
        self._record(True)

    def _record(self, ok: bool) -> None:
        try:
            self._manager.record(self._service, ok)
        except Exception:
            self._failed("the manager failed to take note of a call of %s")

    def _failed(self, text: str) -> None:
        log_failure(_log, "degrade.manager_failed", text, self._service, kind="degrade", policy=self._service)
