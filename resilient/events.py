"""What happened, as small objects, and the one door they leave by.

Policies publish after their locks are released; logging, metrics, managers and tests subscribe.
An event nobody listens to is never built.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

    from resilient.circuit_breaker import CircuitState

_log = logging.getLogger("resilient.events")
_top = logging.getLogger("resilient")
_root = logging.getLogger()

#: The handlers of the package's logger as long as nobody has set up any. An application that configures logging takes
#: ours away, so that its own may be the only one there.
UNTOUCHED: list[logging.Handler] = [logging.NullHandler()]


class Event:
    """Base of all events; `name` is the policy's. Subscribing to it means all events."""

    __slots__ = ("name",)
    kinds: ClassVar[list[type[Event]]] = []
    name: str

    def __init_subclass__(cls) -> None:
        Event.kinds.append(cls)
        if "HUB" in globals():
            HUB.rebuild()

    def fields(self) -> dict[str, Any]:
        """The event's data by field name."""
        names = [slot for cls in reversed(type(self).__mro__) for slot in getattr(cls, "__slots__", ())]
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.fields().items())})"


class RetryScheduled(Event):
    """Attempt number `attempt` failed, by `error` or by `result`; the next follows in `delay` seconds."""

    __slots__ = ("attempt", "delay", "error", "result")

    def __init__(
        self, name: str, attempt: int, delay: float, error: Exception | None = None, result: object = None
    ) -> None:
        self.name = name
        self.attempt = attempt
        self.delay = delay
        self.error = error
        self.result = result


class RetrySucceeded(Event):
    """A call that had failed before succeeded on attempt number `attempts`."""

    __slots__ = ("attempts",)

    def __init__(self, name: str, attempts: int) -> None:
        self.name = name
        self.attempts = attempts


class RetryExhausted(Event):
    """The call is given up after `attempts`; `reason`: attempts, stop, elapsed, deadline or budget."""

    __slots__ = ("attempts", "error", "reason")

    def __init__(self, name: str, attempts: int, error: Exception | None, reason: str) -> None:
        self.name = name
        self.attempts = attempts
        self.error = error
        self.reason = reason


class RetrySuppressed(Event):
    """An outer retry left an error alone that an inner retry had already given up on."""

    __slots__ = ("error",)

    def __init__(self, name: str, error: Exception) -> None:
        self.name = name
        self.error = error


class CircuitStateChanged(Event):
    """A breaker went from `old` to `new`; `retry_after` is the open period in seconds, if one began."""

    __slots__ = ("new", "old", "reason", "retry_after")

    def __init__(
        self, name: str, old: CircuitState, new: CircuitState, reason: str, retry_after: float | None = None
    ) -> None:
        self.name = name
        self.old = old
        self.new = new
        self.reason = reason
        self.retry_after = retry_after


class CallRejected(Event):
    """A breaker or bulkhead (`kind`) turned a call away; `reason`: open, isolated, probing, full, timeout, closed."""

    __slots__ = ("kind", "reason", "retry_after")

    def __init__(self, name: str, kind: str, reason: str, retry_after: float | None = None) -> None:
        self.name = name
        self.kind = kind
        self.reason = reason
        self.retry_after = retry_after


class CallTimedOut(Event):
    """A call passed its `limit` in seconds; `abandoned` is how many threads still work on such calls."""

    __slots__ = ("abandoned", "limit")

    def __init__(self, name: str, limit: float, abandoned: int = 0) -> None:
        self.name = name
        self.limit = limit
        self.abandoned = abandoned


class FallbackServed(Event):
    """A failed call (`error`) was answered all the same; `source`: cache or fallback."""

    __slots__ = ("error", "source")

    def __init__(self, name: str, error: Exception | None, source: str) -> None:
        self.name = name
        self.error = error
        self.source = source


class FallbackFailed(Event):
    """One fallback failed with `error`."""

    __slots__ = ("error",)

    def __init__(self, name: str, error: Exception) -> None:
        self.name = name
        self.error = error


class ConfigurationChanged(Event):
    """`registry.configure` changed a live policy of this `kind`; `changes` holds the new values."""

    __slots__ = ("changes", "kind")

    def __init__(self, name: str, kind: str, changes: dict[str, Any]) -> None:
        self.name = name
        self.kind = kind
        self.changes = changes


E_contra = TypeVar("E_contra", bound=Event, contravariant=True)
Handler = Callable[[Any], object]


class Subscription:
    """Call it, or leave its `with` block, to stop listening; doing so twice is harmless."""

    __slots__ = ("_hub", "active", "handler", "types")

    def __init__(self, hub: Hub, handler: Handler, types: tuple[type[Event], ...]) -> None:
        self._hub = hub
        self.handler = handler
        self.types = types
        self.active = True

    def __call__(self) -> None:
        self._hub.remove(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self()


class Note(NamedTuple):
    """A record for the log of what is no event; `values` go into `text`, and `fields` to its structured part."""

    logger: logging.Logger
    level: int
    event: str
    kind: str
    policy: str | None
    text: str
    values: tuple[object, ...]
    fields: dict[str, object]
    error: BaseException | None
    traced: bool
    limited: bool


def log_note(
    logger: logging.Logger,
    level: int,
    event: str,
    text: str,
    *values: object,
    kind: str,
    policy: str | None = None,
    error: BaseException | None = None,
    limited: bool = True,
    **fields: object,
) -> None:
    """Log what is no event, under a name that stays; what a log handler raises is nobody's business."""
    with suppress(Exception):
        HUB.note(Note(logger, level, event, kind, policy, text, values, fields, error, False, limited))


def log_failure(
    logger: logging.Logger,
    event: str,
    text: str,
    *values: object,
    kind: str,
    policy: str | None = None,
    limited: bool = True,
    **fields: object,
) -> None:
    """Log the exception being handled; what a log handler raises must not take its place."""
    with suppress(Exception):
        note = Note(logger, logging.ERROR, event, kind, policy, text, values, fields, sys.exception(), True, limited)
        HUB.note(note)


def has_reader(logger: logging.Logger | None) -> bool:
    """Whether a record would be seen: one that nobody sees costs more than all policies together."""
    while logger is not None:
        for handler in logger.handlers:
            if type(handler) is not logging.NullHandler:
                return True
        logger = logger.parent if logger.propagate else None
    return False


class Hub:
    """Hands events to handlers.

    Ask `wants(SomeEvent)` before building an event. `by_type` is replaced, never changed, so publishing takes no lock.
    The log is asked apart from the subscribers, as whether it wants anything may change at any moment.
    """

    __slots__ = ("_lock", "_subscriptions", "by_type", "failures", "flush", "lines", "log", "note")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._subscriptions: tuple[Subscription, ...] = ()
        self.by_type: dict[type[Event], tuple[Handler, ...]] = {}
        self.failures = 0
        #: Set by the logging: what is logged by whom at which level, and how.
        self.lines: Mapping[type[Event], tuple[Any, ...]] = {}
        self.log: Callable[[Any], object] = lambda event: None
        self.note: Callable[[Note], object] = lambda note: None
        self.flush: Callable[[], object] = lambda: None

    def wants(self, kind: type[Event]) -> bool:
        """Whether anyone listens to such events."""
        if kind in self.by_type:
            return True
        line = self.lines.get(kind)
        if line is None:
            return False
        logger = line[0]
        if not _root.handlers and not logger.handlers and _top.handlers == UNTOUCHED:
            return False  # the common case of no logging at all: nothing but our NullHandler
        return logger.isEnabledFor(line[1]) and has_reader(logger)

    def subscribe(self, handler: Handler, *types: type[Event]) -> Subscription:
        """Call `handler(event)` for each event of these types (all, if none is named)."""
        if not callable(handler):
            raise TypeError(f"subscribe(): handler must be callable, not {handler!r}")
        kind: Any
        for kind in types:
            if not isinstance(kind, type) or not issubclass(kind, Event):
                raise TypeError(f"subscribe(): event types are classes of resilient.events, not {kind!r}")
        subscription = Subscription(self, handler, types or (Event,))
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
        self.rebuild()
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        with self._lock:
            subscription.active = False  # it may also be among those that a scope has put aside
            self._subscriptions = tuple(one for one in self._subscriptions if one.active)
        self.rebuild()

    def rebuild(self) -> None:
        """Make `by_type` anew from the subscriptions and the event classes there are."""
        with self._lock:
            table = {
                kind: tuple(one.handler for one in self._subscriptions if issubclass(kind, one.types))
                for kind in Event.kinds
            }
            self.by_type = {kind: handlers for kind, handlers in table.items() if handlers}

    def swap(self, subscriptions: tuple[Subscription, ...]) -> tuple[Subscription, ...]:
        """Put other subscriptions in place of the present ones, which are returned."""
        with self._lock:
            before, self._subscriptions = self._subscriptions, tuple(one for one in subscriptions if one.active)
        self.rebuild()
        return before

    def publish(self, event: Event) -> None:
        """Tell everyone who listens. A handler that raises is logged and counted; the caller never sees it."""
        for handler in (self.log, *self.by_type.get(type(event), ())):
            try:
                handler(event)
            except Exception:
                self.failures += 1
                text = "a handler of %s failed"
                log_failure(_log, "events.handler_failed", text, type(event).__name__, kind="events", policy=event.name)

    def after_fork(self) -> None:
        """Replace the lock in a forked child: another thread may have held it."""
        self._lock = threading.RLock()


HUB = Hub()
