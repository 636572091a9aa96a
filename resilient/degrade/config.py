"""The options of `@degrade`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from resilient import _checks as check
from resilient._checks import ErrorFilter
from resilient.degrade.caches import check_cache
from resilient.errors import ConfigurationError


class Manager(Protocol):
    """What `manager=` must offer: whether a service is to be spared, and where outcomes are reported."""

    def is_degraded(self, service: str) -> bool: ...
    def record(self, service: str, ok: bool) -> None: ...


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DegradeConfig(check.Options):
    """The options of `@degrade`, checked and in their internal form."""

    fallback: Any = ...
    on: ErrorFilter = Exception
    cache: Any = None
    key: Callable[..., Any] | None = None
    fallback_limit: int | None = None
    manager: Manager | None = None
    service: str | None = None

    def __post_init__(self) -> None:
        if self.fallback is ... and self.cache is None and self.manager is None:
            raise ConfigurationError("degrade needs fallback= or cache=: what is the answer when the call fails?")
        check.error_filter("on", self.on)
        if self.cache is not None:
            check_cache(self.cache)
        elif self.key is not None:
            raise check.bad("key", self.key, "makes keys for a cache; give cache= too")
        check.callable_or_none("key", self.key)
        if inspect.iscoroutinefunction(self.key):
            raise TypeError(f"key={self.key!r}: is async; keys are made by sync functions")
        check.count("fallback_limit", self.fallback_limit, none="no limit")
        for method in ("is_degraded", "record") if self.manager is not None else ():
            if not callable(getattr(self.manager, method, None)):
                raise TypeError(f"manager={self.manager!r}: must have a method {method}")
        if self.service is not None and self.manager is None:
            raise check.bad("service", self.service, "names the service to a manager; give manager= too")
