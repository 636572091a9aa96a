"""Failover: several callables that give the same answer, asked in order; the first healthy one serves.

Each target has a circuit breaker of its own, which remembers whether it is healthy. What decides is their state alone,
so there is no second memory that could disagree with it.
"""

from __future__ import annotations

import inspect
import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Concatenate, NamedTuple, NoReturn, ParamSpec, Protocol, TypeVar, cast, overload

from resilient import _checks as check
from resilient._checks import ErrorFilter, Seconds
from resilient._registry import registry
from resilient.circuit_breaker import CircuitBreaker, CircuitState, circuit_breaker
from resilient.clock import CLOCK
from resilient.deadlines import remaining_time
from resilient.degradation.outbox import Outbox
from resilient.errors import CircuitOpenError
from resilient.events import Event
from resilient.generators import Layer
from resilient.logs import LINES, Line
from resilient.policy import Composable, Policy
from resilient.strategies.building import all_or_nothing
from resilient.wrapping import Guarded, GuardedObject, Kind, Site, chain, describe, guard, kind_of

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_FAILOVERS: weakref.WeakSet[Failover] = weakref.WeakSet()


class TargetChanged(Event):
    """Calls are served by target `new` instead of `old`, each "primary", "replica-1", …, or None where none is well.

    Told when a circuit opens or closes, not for a single call that fails over: the calls that follow begin at `old`
    all the same.
    """

    __slots__ = ("new", "old")

    def __init__(self, name: str, old: str | None, new: str | None) -> None:
        self.name = name
        self.old = old
        self.new = new


LINES[TargetChanged] = Line(
    logging.getLogger("resilient.failover"),
    logging.WARNING,
    lambda e: f"{e.name}: served by {e.new or 'no target'} instead of {e.old or 'none'}",
    "failover.target_changed",
    "failover",
)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FailoverConfig(check.Options):
    """The options of `failover`; what they mean for each target is its breaker's configuration."""

    on: ErrorFilter
    failure_threshold: int
    recovery_timeout: Seconds
    half_open_calls: int


class FailoverMetrics(NamedTuple):
    """Which target a call would try first, the states of all, and how often the serving one has changed."""

    active: str | None
    states: tuple[CircuitState, ...]
    changes: int


class Failover(Policy):
    """Asks the targets in order and skips those whose circuit is open; made by `failover(...)`."""

    kind = "failover"
    config: FailoverConfig

    def __init__(self, config: FailoverConfig, name: str | None, targets: tuple[Callable[..., Any], ...]) -> None:
        # Not in the registry itself: what there is to read and to change are its breakers.
        super().__init__(config, name or describe(targets[0]))
        self.targets = targets
        self.labels = ("primary", *(f"replica-{number}" for number in range(1, len(targets))))
        self.breakers = tuple(_breaker(config, f"{name}:{label}" if name else None) for label in self.labels)
        for breaker, target in zip(self.breakers, targets, strict=True):
            breaker.bind(target)
        self.handles = check.matcher(config.on)
        #: The place of the first target whose circuit is closed, len(targets) where there is none.
        self.serving = 0
        self._lock = threading.RLock()
        self._changes = 0
        self._outbox = Outbox()
        _FAILOVERS.add(self)

    @property
    def amplification(self) -> float:  # type: ignore[override]
        """The number of targets."""
        return len(self.targets)

    def bound(self, seconds: float) -> float:
        """One target after the other, if they are alike."""
        return seconds * len(self.targets) if seconds else 0.0

    # Layers -------------------------------------------------------------------------------------

    def sync_layer(self, call: Layer, site: Site) -> Layer:
        """Ask the primary, and where it does not answer one replica after the other."""
        first = self.breakers[0].sync_layer(call, site)
        others = self._others(Kind.SYNC)

        def failover(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            try:
                result = first(args, kwargs)
            except Exception as error:
                trail = _Trail(self)
                try:
                    if not trail.goes_on(error):
                        raise
                    for ask in others:
                        try:
                            return ask(args, kwargs)
                        except Exception as later:
                            if not trail.goes_on(later):
                                raise
                    trail.raise_last()
                finally:
                    trail.end()
            if self.serving:
                self.look()
            return result

        return failover

    def async_layer(self, call: Layer, site: Site) -> Layer:
        """Ask the primary, and where it does not answer one replica after the other."""
        first = self.breakers[0].async_layer(call, site)
        others = self._others(Kind.ASYNC)

        async def failover(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            try:
                result = await first(args, kwargs)
            except Exception as error:
                trail = _Trail(self)
                try:
                    if not trail.goes_on(error):
                        raise
                    for ask in others:
                        try:
                            return await ask(args, kwargs)
                        except Exception as later:
                            if not trail.goes_on(later):
                                raise
                    trail.raise_last()
                finally:
                    trail.end()
            if self.serving:
                self.look()
            return result

        return failover

    def _others(self, kind: Kind) -> tuple[Layer, ...]:
        seam = _sync_seam if kind is Kind.SYNC else _async_seam
        replicas = zip(self.targets[1:], self.breakers[1:], strict=True)
        return tuple(chain(seam(target), kind, (breaker,), target) for target, breaker in replicas)

    # Who serves ---------------------------------------------------------------------------------

    @property
    def active(self) -> str | None:
        """The target that a call beginning now would try first; None where every circuit would refuse it."""
        for label, breaker in zip(self.labels, self.breakers, strict=True):
            if _has_place(breaker):
                return label
        return None

    def look(self) -> None:
        """Find out who serves after a call that has not simply been answered by the primary, and tell of a change."""
        if self._first_closed() == self.serving:
            return
        with self._lock:
            old, new = self.serving, self._first_closed()
            if new != old:
                self.serving = new
                self._changes += 1
                labels = (*self.labels, None)
                self._outbox.put(TargetChanged(self.name, labels[old], labels[new]))
        self._outbox.send()

    def _first_closed(self) -> int:
        # Not `breaker.state`, which may tell subscribers of a transition: this is asked under a lock.
        for index, breaker in enumerate(self.breakers):
            if not breaker._machine.epoch.gate:
                return index
        return len(self.breakers)

    # For the owner ------------------------------------------------------------------------------

    def uses(self) -> tuple[Policy, ...]:
        """The targets' circuit breakers."""
        return self.breakers

    def get_metrics(self) -> FailoverMetrics:
        """The numbers of now."""
        return FailoverMetrics(self.active, tuple(breaker.state for breaker in self.breakers), self._changes)

    def after_fork(self) -> None:
        """Make the policy usable in a forked child."""
        self._lock = threading.RLock()
        self._outbox = Outbox()


class _Trail:
    """What has become of one call that the primary has not answered."""

    __slots__ = ("asked", "failed", "owner", "refused")

    def __init__(self, owner: Failover) -> None:
        self.owner = owner
        self.asked = 0
        self.failed: list[tuple[int, Exception]] = []
        self.refused: list[tuple[int, float | None]] = []

    def goes_on(self, error: Exception) -> bool:
        """Take down what the next target in the row has raised; whether the one after it is to be asked."""
        index, owner = self.asked, self.owner
        self.asked += 1
        if isinstance(error, CircuitOpenError) and error.name == owner.breakers[index].name:
            self.refused.append((index, error.retry_after))
            return True
        late = False
        if owner.handles(error) and self.asked < len(owner.targets):
            late = remaining_time() == 0.0
            if not late:
                self.failed.append((index, error))
                return True
        self._annotate(error, range(self.asked, len(owner.targets)) if late else ())
        return False

    def raise_last(self) -> NoReturn:
        """Raise the error of the last target that was really asked; CircuitOpenError where none was."""
        error: Exception
        if self.failed:
            _, error = self.failed.pop()
            self._annotate(error)
        else:
            times = [retry_after for _, retry_after in self.refused if retry_after is not None]
            error = CircuitOpenError(self.owner.name, min(times, default=None))
        context = error.__context__
        try:
            raise error
        finally:
            # `raise` has put the primary's error in the place of what the error itself came of.
            error.__context__ = context
            del error, context  # their tracebacks have this frame, and the frame would have them

    def end(self) -> None:
        """Forget the errors, whose tracebacks lead back here, and see who serves now."""
        self.failed.clear()
        self.owner.look()

    def _annotate(self, error: Exception, unasked: range | tuple[()] = ()) -> None:
        """Note on the error how the other targets have fared."""
        labels = self.owner.labels
        parts = [f"{labels[index]} failed ({_said(other)})" for index, other in self.failed]
        parts += [f"{labels[index]} was not asked, its circuit is open" for index, _ in self.refused]
        parts += [f"{labels[index]} was not asked, the deadline has passed" for index in unasked]
        if parts:
            _note(error, f"failover {self.owner.name}: ", "; ".join(parts))


def _note(error: Exception, head: str, text: str) -> None:
    """Put a note on the error, in the place of the one it has from an earlier call that raised the same object."""
    with suppress(Exception):  # a class may have its own idea of notes
        notes = [note for note in getattr(error, "__notes__", ()) if not str(note).startswith(head)]
        error.__notes__ = [*notes, head + text]


def _said(error: Exception) -> str:
    """The error in one short line."""
    try:
        line = next(iter(str(error).splitlines()), "")
    except Exception:
        line = ""
    kind = type(error).__name__
    return f"{kind}: {line[:200]}" if line else kind


def _breaker(config: FailoverConfig, name: str | None) -> CircuitBreaker:
    return circuit_breaker(
        name,
        failure_threshold=config.failure_threshold,
        recovery_timeout=config.recovery_timeout,
        expected_exception=config.on,
        half_open_calls=config.half_open_calls,
    )


def _has_place(breaker: CircuitBreaker) -> bool:
    """Whether a call beginning now would be let through, without asking for it, which would take a probe's place."""
    if breaker.state in (CircuitState.CLOSED, CircuitState.DISABLED):
        return True
    epoch = breaker._machine.epoch
    if epoch.probes is None:
        return not epoch.gate
    now = CLOCK.monotonic()
    held = sum(probe.until > now for probe in list(epoch.probes))
    return held + epoch.good + epoch.bad < breaker.config.half_open_calls


def _sync_seam(target: Callable[..., Any]) -> Layer:
    def invoke(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = target(*args, **kwargs)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(
                f"{describe(target)} returned a coroutine while the primary is sync: define it by async def"
            )
        return result

    return invoke


def _async_seam(target: Callable[..., Any]) -> Layer:
    async def invoke(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = target(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    return invoke


class _FailoverCallable(Guarded):
    """The primary with the failover around it, and what there is to know of it."""

    __slots__ = ()

    @property
    def _policy(self) -> Failover:
        return next(policy for policy in self.policies if isinstance(policy, Failover))

    @property
    def targets(self) -> tuple[Callable[..., Any], ...]:
        """The primary and the replicas, as they were given."""
        return self._policy.targets

    @property
    def breakers(self) -> tuple[CircuitBreaker, ...]:
        """The targets' circuit breakers, in the same order."""
        return self._policy.breakers

    @property
    def active(self) -> str | None:
        """The target that a call beginning now would try first; None where every circuit would refuse it."""
        return self._policy.active


class _FailoverObject(_FailoverCallable, GuardedObject):
    """The same around a callable that does not bind as a method."""

    __slots__ = ()


class FailoverFunction(Protocol[P, R_co]):
    """What `failover` returns, as type checkers see it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __get__(self, obj: None, owner: Any = None, /) -> FailoverFunction[P, R_co]: ...
    @overload
    def __get__(
        self: FailoverFunction[Concatenate[Any, Q], R_co], obj: object, owner: Any = None, /
    ) -> Callable[Q, R_co]: ...
    @property
    def targets(self) -> tuple[Callable[..., Any], ...]:
        """The primary and the replicas, as they were given."""

    @property
    def breakers(self) -> tuple[CircuitBreaker, ...]:
        """The targets' circuit breakers, in the same order."""

    @property
    def active(self) -> str | None:
        """The target that a call beginning now would try first; None where every circuit would refuse it."""


@all_or_nothing()
def failover(
    primary: Callable[P, R],
    /,
    *replicas: Callable[..., R],
    on: ErrorFilter = Exception,
    failure_threshold: int = 3,
    recovery_timeout: Seconds = 30.0,
    half_open_calls: int = 1,
    name: str | None = None,
) -> FailoverFunction[P, R]:
    """Ask the primary, and where it fails or is known to be down the replicas, in order.

        find_order = failover(find_on_primary, find_on_replica, on=OperationalError, name="orders")

    Every target has a circuit breaker. One whose circuit is open is skipped, so a dead primary costs nothing but the
    calls that open it and one probe per `recovery_timeout`. Every call begins at the primary again, so its return to
    service is that of its circuit. Where all targets that were asked fail, the last error arrives itself, with a note
    on how the others fared. After a deadline no further target is asked.

    The probe is a caller's own call: nobody is asked in the background. That one caller waits for a primary that
    hangs, while all others go on to the replica; should the probe fail, the replica answers it too. Give the primary
    a `@timeout` of its own to bound that wait. A probe that hangs loses its place after `recovery_timeout`.

    A call may have reached its target before it failed: fail over reads, or writes that can be made twice. A replica
    may lag behind. Wrap it as you like: `retry(...)(failover(a, b))`, `Pipeline(...).call(failover(a, b), ...)`.

    Args:
        primary: what to call; sync or async function, method, or any other callable, guarded or not.
        replicas: what to call instead, with the same arguments; all sync, or all async, like the primary.
        on: which errors to fail over for, and so to count against a target: an exception type, a tuple of types, or a
            predicate. Other errors pass at once. What policies of a target itself raise is judged in the same way.
        failure_threshold: consecutive failures from which a target is skipped. Few, as a replica stands by: skipping a
            healthy primary for a while costs little, asking a dead one costs each caller its whole timeout. More than
            1, as a single broken connection says little.
        recovery_timeout: seconds or timedelta until a target that is skipped is probed.
        half_open_calls: probes that have to succeed before a target serves again, also the most in flight at once.
            One by default: should that prove too hopeful, the replica answers the calls that fail.
        name: names the breakers `<name>:primary`, `<name>:replica-1`, …; failovers of the same name and options share
            them, as functions of the same databases should. By default they are named after the targets.

    Returns:
        A callable like the primary, with `targets`, `breakers`, and `active`: the name of the target that a call
        beginning now would try first ("primary", "replica-1", …).

    Raises:
        CircuitOpenError: (at the call) every circuit is open; `retry_after` is the soonest of theirs.
        ConfigurationError: an option has an impossible value, or a breaker's name is taken by another configuration.
        TypeError: no replica, a mixture of sync and async, or a target that cannot be guarded.
    """
    targets = (primary, *replicas)
    kind = _common_kind(targets)
    name = check.policy_name(name)
    check.error_filter("on", on)
    policy = Failover(FailoverConfig(on, failure_threshold, recovery_timeout, half_open_calls), name, targets)
    return cast("FailoverFunction[P, R]", as_failover(guard(primary, (policy,)), kind))


def as_failover(guarded: Any, kind: Kind | None) -> Any:
    """The same callable with what there is to know of the failover among its policies."""
    proxy = _FailoverObject if isinstance(guarded, GuardedObject) else _FailoverCallable
    return proxy(guarded.__wrapped__, guarded.policies, kind)


def _common_kind(targets: tuple[Any, ...]) -> Kind | None:
    """The kind of all targets, None where only a call can tell; raises TypeError for what does not go together."""
    if len(targets) < 2:
        raise TypeError("failover() needs a replica: failover(primary, replica); use @circuit_breaker for one function")
    kinds: dict[Kind, Any] = {}
    for target in targets:
        kind = _kind(target)
        if kind is not None:
            kinds.setdefault(kind, target)
    if len(kinds) > 1:
        found = " and ".join(f"{describe(target)} is {kind.name.lower()}" for kind, target in kinds.items())
        raise TypeError(f"failover() needs targets of one kind, but {found}: make them all sync, or all async")
    return next(iter(kinds), None)


def _kind(target: Any) -> Kind | None:
    """What kind of callable a target is; raises TypeError for one that cannot be a target."""
    if isinstance(target, Composable):
        raise TypeError(f"failover() cannot call {target!r}, which is a policy: guard a function by it, and give that")
    if isinstance(target, (classmethod, staticmethod)) or not callable(target):
        raise TypeError(f"failover() cannot call {target!r}: give it the function itself")
    kind = (target.settled if isinstance(target, Guarded) else None) or kind_of(target)
    if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
        raise TypeError(
            f"failover() cannot guard the generator function {describe(target)}, some of whose items may be out before "
            "it fails: fail over what it calls for each item"
        )
    return kind


def _after_fork() -> None:
    for policy in list(_FAILOVERS):
        policy.after_fork()


registry.fork_hooks.append(_after_fork)
