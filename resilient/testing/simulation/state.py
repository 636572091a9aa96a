"""What policies remember: put aside for a simulation, which begins afresh, and put back afterwards."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from types import FunctionType
from typing import Any

from resilient.bulkhead import Bulkhead
from resilient.bulkhead.state import Places
from resilient.circuit_breaker import CircuitBreaker
from resilient.clock import CLOCK
from resilient.degradation.config import DegradationMode
from resilient.degradation.manager import DegradationManager, Service
from resilient.degradation.state import ServiceState
from resilient.degrade import Degradation
from resilient.degrade.policy import _Tally
from resilient.retry import RetryPolicy
from resilient.retry.budget import BudgetState, RetryBudget
from resilient.retry.policy import Tally
from resilient.timeout import Timeout
from resilient.timeout.smart import STATISTICS, ResponseTimes, SmartTimeout

#: Whose objects are state, wherever a policy keeps them; all others belong to somebody else.
_OURS = ("resilient", "cachetools")
#: Not the state of a policy, though policies hold them: the process's, and guarded functions.
_NOT_OURS = ("resilient._registry", "resilient.events", "resilient.clock", "resilient.wrapping")
_CONTAINERS = (dict, list, set, deque)


class KeptState:
    """The state of policies, all that they hold included, as it was when this was made."""

    def __init__(self, policies: Iterable[Any]) -> None:
        self._put_back: list[Callable[[], object]] = []
        #: The objects it is about.
        self.objects: list[Any] = []
        self._walk(list(policies))

    def restore(self) -> None:
        """Put it back."""
        for put_back in self._put_back:
            put_back()

    def _walk(self, waiting: list[Any]) -> None:
        modules = {type(one).__module__ for policy in waiting for one in (policy, *getattr(policy, "parts", ()))}
        seen: set[int] = set()
        while waiting:
            one = waiting.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            if isinstance(one, _CONTAINERS):
                self._put_back.append(_container(one))
                waiting.extend(one.values() if isinstance(one, dict) else one)
            elif isinstance(one, (tuple, frozenset)):
                waiting.extend(one)
            elif _is_state(one, modules):
                self.objects.append(one)
                found = dict(_attributes(one))
                self._put_back.append(_attributes_back(one, found))
                waiting.extend(found.values())


def _is_state(one: Any, modules: set[str]) -> bool:
    if isinstance(one, (type, Enum, BaseException, FunctionType)):
        return False
    module = type(one).__module__
    if module in _NOT_OURS:
        return False
    return hasattr(type(one), "acall") or module in modules - {"builtins"} or module.partition(".")[0] in _OURS


def _attributes(one: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(one, "__dict__", {}).items()
    for cls in type(one).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name in ("__dict__", "__weakref__"):
                continue
            private = name.startswith("__") and not name.endswith("__")
            found = f"_{cls.__name__.lstrip('_')}{name}" if private else name
            if hasattr(one, found):
                yield found, getattr(one, found)


def _attributes_back(one: Any, found: dict[str, Any]) -> Callable[[], object]:
    def put_back() -> None:
        now = dict(_attributes(one))
        for name in now.keys() - found.keys():
            object.__delattr__(one, name)
        for name, value in found.items():
            if name not in now or now[name] is not value:
                object.__setattr__(one, name, value)

    return put_back


def _container(one: Any) -> Callable[[], object]:
    before = one.copy()

    def put_back() -> None:
        one.clear()
        if isinstance(one, (dict, set)):
            one.update(before)
        else:
            one.extend(before)

    return put_back


def start_afresh(objects: Iterable[Any]) -> None:
    """Bring policies, and what they share, to the state of new ones; one with a `reset()` of its own is asked."""
    for one in objects:
        for kind, fresh in _FRESH.items():
            if isinstance(one, kind):
                fresh(one)
        reset = getattr(one, "reset", None)
        if hasattr(type(one), "acall") and callable(reset):
            reset()


def _breaker(one: CircuitBreaker) -> None:
    one._rejected = one._changes = 0


def _retry(one: RetryPolicy) -> None:
    one.tally = Tally()


def _budget(one: RetryBudget) -> None:
    one.calls = one._granted = one._refused = 0
    one._state = BudgetState(one.ratio, one.min_per_second, one.window, CLOCK.monotonic())


def _bulkhead(one: Bulkhead) -> None:
    closed = one._places.closed
    one._places, one._rejected = Places(one.config.max_concurrent), 0
    if closed:
        one._places.close()


def _timeout(one: Timeout) -> None:
    one._timed_out = one._abandoned = 0
    one._timers = None


def _smart(one: SmartTimeout) -> None:
    one._times = ResponseTimes(one.window_size, STATISTICS[one.statistic])
    one._timeouts = 0
    one._stretch()


def _degradation(one: Degradation) -> None:
    one.tally = _Tally()


def _manager(one: DegradationManager) -> None:
    one._mode = one._measured = DegradationMode.NORMAL
    one._mode_changes = 0
    for service in one._services.values():
        _service(service)
    one.force_degradation(one.forced)  # what was set by hand holds in the simulation, too


def _service(one: Service) -> None:
    ServiceState.__init__(one, one.config)
    one.gate = one.watch = one.says = one.told = False


_FRESH: dict[type[Any], Callable[[Any], None]] = {
    CircuitBreaker: _breaker,
    RetryPolicy: _retry,
    RetryBudget: _budget,
    Bulkhead: _bulkhead,
    Timeout: _timeout,
    SmartTimeout: _smart,
    Degradation: _degradation,
    DegradationManager: _manager,
}
