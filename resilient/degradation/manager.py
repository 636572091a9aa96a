"""The degradation manager: measures services, spares those that fail, and says how much of the whole is degraded."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from resilient import _checks as check
from resilient._registry import registry
from resilient.clock import CLOCK
from resilient.degradation.config import DegradationConfig, DegradationMode
from resilient.degradation.events import DegradationModeChanged, ServiceHealthChanged
from resilient.degradation.monitor import Monitor
from resilient.degradation.outbox import Outbox
from resilient.degradation.state import ServiceState, measured_mode
from resilient.degrade import Degradation, DegradeConfig
from resilient.errors import ConfigurationError, UnknownNameError
from resilient.events import log_failure
from resilient.meters import MODE_BUCKETS, Distribution, Histogram
from resilient.wrapping import Kind, kind_of

_log = logging.getLogger("resilient.degradation")

METHODS = ("execute_full", "execute_degraded", "should_degrade")


class ServiceHealth(NamedTuple):
    """The numbers of one service: outcomes of real calls, error rates from 0 to 1, and whether it is spared."""

    degraded: bool
    calls: int
    moving_rate: float
    window_rate: float


class ManagerMetrics(NamedTuple):
    """The numbers of a manager: its mode, whether that is forced, its services' health, and changes of mode."""

    mode: DegradationMode
    forced: bool
    services: Mapping[str, ServiceHealth]
    mode_changes: int


class Service(ServiceState):
    """One service as its manager sees it. The layers of `@degrade` read `gate`, `watch`, `epoch` and `calls`.

    gate: whether to ask `admit()` before a real call; watch: whether to report a success, which is else only counted.
    """

    __slots__ = (
        "async_method", "forgotten", "gate", "guarded", "manager", "name", "says", "service", "told", "watch",
    )  # fmt: skip

    def __init__(self, manager: DegradationManager, name: str) -> None:
        super().__init__(manager.config)
        self.manager = manager
        self.name = name
        self.gate = self.watch = False
        #: What its own `should_degrade` has said last.
        self.says = False
        #: What was last told of it.
        self.told = False
        self.forgotten = False
        self.service: Any = None
        self.guarded: Any = None
        self.async_method: str | None = None

    @property
    def spared(self) -> bool:
        """Whether it is degraded, by measurement or by its own word."""
        return self.degraded or self.says

    @property
    def strict(self) -> bool:
        """Whether it must not be called for real at all."""
        return self.says or self.manager.forced is DegradationMode.FULL

    def admit(self) -> bool:
        """Whether a call may be a real one, although the service is degraded."""
        with self.manager.lock:
            if not self.gate:
                return True
            return not self.strict and self.admits(CLOCK.monotonic())

    def failed(self, epoch: int = -1) -> bool:
        """Account for an error of a call that began in this epoch; one of an older epoch is dropped."""
        manager = self.manager
        with manager.lock:
            if self.forgotten or epoch not in (-1, self.epoch):
                return False
            # The second: an interrupt has come between a change and its consequences.
            changed = super().failed() or self.degraded is not self.watch
        if changed:
            manager.service_changed(self)
        return changed

    def succeeded(self, epoch: int = -1) -> None:
        """Look whether the service has recovered, after a success has been counted."""
        manager = self.manager
        with manager.lock:
            changed = (epoch in (-1, self.epoch) and self.recovered()) or self.degraded is not self.watch
        if changed:
            manager.service_changed(self)

    def forget(self) -> None:
        """It is no service any more: functions that still report to it are never spared."""
        self.forgotten = True
        self.gate = self.watch = self.degraded = self.says = False

    def health(self) -> ServiceHealth:
        """The numbers of now."""
        return ServiceHealth(self.spared, self.calls, self.moving_rate(), self.window_rate())


class DegradationManager:
    """Watches services and spares those that fail, so that they can recover: `DegradationManager()`.

    A service is an object with `execute_full`, `execute_degraded` and `should_degrade`, registered by
    `register_service` and called by `execute_service`; or simply a function decorated with
    `@degrade(fallback=..., manager=manager, service="recommendations")`.

    A degraded service is still called for real now and then, so that it can prove itself healthy: at most once in
    `trickle_interval` seconds, and never for more than a third of its calls. Services are measured as they are used;
    `start_monitoring` is needed only for services whose own `should_degrade` is to be asked while nobody calls them.

    Args:
        config: a `DegradationConfig`; or its options by keyword.
        name: for events and log lines.

    Raises:
        ConfigurationError: an option has an impossible value.
    """

    keeps_health = True

    def __init__(self, config: DegradationConfig | None = None, *, name: str = "degradation", **options: Any) -> None:
        if config is not None and options:
            raise TypeError(f"DegradationManager: give a config, or options ({', '.join(options)}), not both")
        if config is not None and not isinstance(config, DegradationConfig):
            raise TypeError(f"config={config!r}: must be a DegradationConfig")
        self.config = config or DegradationConfig(**options)
        self.name = check.policy_name(name) or "degradation"
        self.lock = threading.RLock()  # re-entrant: the garbage collector may run a guarded call anywhere
        self.forced: DegradationMode | None = None
        self._mode = self._measured = DegradationMode.NORMAL
        self._mode_changes = 0
        self._mode_since = CLOCK.monotonic()
        degraded = (DegradationMode.PARTIAL, DegradationMode.FULL)
        self._durations = {
            mode: Histogram("recovery_degradation_mode_duration_seconds", MODE_BUCKETS) for mode in degraded
        }
        self._over: deque[tuple[DegradationMode, float]] = deque()  # degraded modes that have ended, to be told of
        self._outbox = Outbox()
        self._outdated = False
        self._services: dict[str, Service] = {}
        self._monitor: Monitor | None = None
        _managers.add(self)

    # Services -----------------------------------------------------------------------------------

    def register_service(self, name: str, service: Any) -> None:
        """Make an object with `execute_full`, `execute_degraded` and `should_degrade` known under a name.

        Raises TypeError where a method is missing, ConfigurationError where the name belongs to another object.
        """
        missing = [method for method in METHODS if not callable(getattr(service, method, None))]
        if missing:
            raise TypeError(f"service {name!r}: {service!r} has no method {', '.join(missing)}")
        _check_name("name", name)
        # All that calls the service's code, or takes the registry's lock, before our own lock.
        kinds = {method: kind_of(getattr(service, method)) for method in METHODS}
        async_method = next((method for method, kind in kinds.items() if kind is Kind.ASYNC), None)
        full = service.execute_full
        if async_method is not None and kinds["execute_full"] is not Kind.ASYNC:
            full = _awaited(full)
        policy = Degradation(DegradeConfig(fallback=service.execute_degraded, manager=self, service=name), None)
        policy._name = registry.name_automatically(policy.kind, name, policy)
        known = self._services.get(name)
        try:
            guarded = policy(full)
            with self.lock:
                entry = self.health(name)
                if entry.service is not None and entry.service is not service:
                    raise ConfigurationError(f"service {name!r} is already registered, as {entry.service!r}")
                if entry.service is None:
                    entry.service, entry.guarded, entry.async_method = service, guarded, async_method
        except BaseException:
            with self.lock:
                made = self._services.get(name)
                if known is None and made is not None and made.service is None:
                    del self._services[name]
            raise

    def unregister_service(self, name: str) -> None:
        """Forget a service; it counts no longer for the mode, and functions that use it are not spared any more."""
        with self.lock:
            self._find(name).forget()
            del self._services[name]
        self.evaluate()

    @property
    def services(self) -> tuple[str, ...]:
        """The names of all services."""
        return tuple(self._services)

    @property
    def degraded_services(self) -> frozenset[str]:
        """The names of the services that are degraded now, whatever mode is forced."""
        with self.lock:
            return frozenset(name for name, one in self._services.items() if one.spared)

    def execute_service(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a sync service in the way its health and the mode call for.

        The full way, and when that fails, or the service is degraded, the degraded one.

        Raises:
            UnknownNameError: no such service.
            TypeError: the service is async, or a decorated function.
            DegradationError: the degraded way failed too.
        """
        entry = self._callable(name)
        if entry.async_method is not None:
            raise TypeError(f"service {name!r}: {entry.async_method} is async; use `await aexecute_service(...)`")
        if self.forced is None or self.forced is DegradationMode.PARTIAL:
            self._ask(entry)
        return entry.guarded(*args, **kwargs)

    async def aexecute_service(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a service, sync or async, in the way its health and the mode call for; see `execute_service`."""
        entry = self._callable(name)
        if self.forced is None or self.forced is DegradationMode.PARTIAL:
            await self._aask(entry)
        result = entry.guarded(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    def health(self, name: str) -> Service:
        """The state of a service for the layers of `@degrade`; made if it is new."""
        _check_name("service", name)
        with self.lock:
            entry = self._services.get(name)
            if entry is None:
                entry = self._services[name] = Service(self, name)
                self._set_gate(entry)
                # Not worked out here, as that may have to be told: this is called while functions are decorated.
                self._outdated = True
            return entry

    def is_degraded(self, service: str) -> bool:
        """Whether a service is degraded now, by measurement, by its own word, or by force.

        Raises UnknownNameError where there is no such service.
        """
        with self.lock:
            return self._find(service).gate

    def record(self, service: str, ok: bool) -> None:
        """Account for a call made elsewhere: whether it succeeded. A service that is not known yet is from now on."""
        entry = self.health(service)
        if not ok:
            entry.failed()
            return
        entry.calls += 1
        entry.succeeded()

    # Modes --------------------------------------------------------------------------------------

    def get_current_mode(self) -> DegradationMode:
        """The mode that is forced, or else the measured one."""
        return self.evaluate() if self._outdated else self._mode

    def force_degradation(self, mode: DegradationMode | str | None) -> None:
        """Hold a mode until `force_degradation(None)`.

        FULL: no service is called for real. NORMAL: none is spared. PARTIAL: as measured.
        """
        try:
            mode = None if mode is None else DegradationMode(mode)
        except ValueError:
            modes = ", ".join(f"DegradationMode.{one.name}" for one in DegradationMode)
            raise check.bad("mode", mode, f"must be {modes}, or None to go by measurement again") from None
        with self.lock:
            self.forced = mode
            self._evaluate("released" if mode is None else "forced")
        self._tell()

    def evaluate(self) -> DegradationMode:
        """Work out the mode anew; done by itself whenever a service's health changes."""
        with self.lock:
            self._evaluate("measured")
        self._tell()
        return self._mode

    def configure(self, **changes: Any) -> None:
        """Change options while it works; measurements stay. A bad change raises and changes nothing."""
        names = self.config.names()
        unknown = sorted(set(changes) - set(names))
        if unknown:
            raise TypeError(f"a degradation manager has no option {', '.join(unknown)}; it has {', '.join(names)}")
        with self.lock:
            self.apply(dataclasses.replace(self.config, **changes))
        self.settle()

    def apply(self, config: DegradationConfig) -> None:
        """Take over a configuration, and draw no conclusions yet."""
        with self.lock:
            new_interval = config.monitoring_interval != self.config.monitoring_interval
            self.config = config
            for entry in self._services.values():
                entry.config = config
            monitor = self._monitor
        if monitor is not None and new_interval:
            monitor.wake()

    def settle(self) -> None:
        """Judge services and mode by the options of now, and tell of what comes of it; called without a lock."""
        with self.lock:
            changed = [entry for entry in self._services.values() if entry.settle()]
        for entry in changed:
            self.service_changed(entry)
        self.evaluate()

    def service_changed(self, entry: Service) -> None:
        """Draw the conclusions from a changed health, and tell of it; called without the lock."""
        with self.lock:
            health = entry.health()
            if health.degraded is not entry.told:
                entry.told = health.degraded
                rates = health.moving_rate, health.window_rate
                self._outbox.put(ServiceHealthChanged(self.name, entry.name, health.degraded, *rates))
            self._evaluate("measured")
        self._tell()

    def get_metrics(self) -> ManagerMetrics:
        """The numbers of now."""
        self.get_current_mode()
        with self.lock:
            health = {name: entry.health() for name, entry in sorted(self._services.items())}
            return ManagerMetrics(self._mode, self.forced is not None, health, self._mode_changes)

    def _tell(self) -> None:
        """Account for modes that are over, and publish what has happened; called without a lock, as others listen."""
        while self._over:
            with suppress(IndexError):  # another thread was quicker
                mode, seconds = self._over.popleft()
                self._durations[mode].observe(seconds, self.name, mode.value)
        self._outbox.send()

    def mode_durations(self) -> dict[DegradationMode, Distribution]:
        """How long each degraded mode has lasted, of the times that are over."""
        return {mode: histogram.distribution() for mode, histogram in self._durations.items()}

    def _evaluate(self, reason: str) -> None:
        """Set gates and mode; the caller has the lock, and tells of it afterwards."""
        entries = list(self._services.values())
        self._outdated = False
        for entry in entries:
            self._set_gate(entry)
        spared = [entry.name for entry in entries if entry.spared]
        # The measured mode goes on behind a forced one, whose release must not leave a trace in the hysteresis.
        self._measured = measured_mode(self._measured, len(spared), len(entries), self.config)
        old, new = self._mode, self.forced or self._measured
        if new is not old:
            self._mode = new
            self._mode_changes += 1
            before, self._mode_since = self._mode_since, CLOCK.monotonic()
            if old in self._durations:
                self._over.append((old, max(0.0, self._mode_since - before)))
            names = tuple(sorted(spared))
            self._outbox.put(DegradationModeChanged(self.name, old.value, new.value, reason, names))

    def _set_gate(self, entry: Service) -> None:
        forced = self.forced
        entry.gate = forced is DegradationMode.FULL or (forced is not DegradationMode.NORMAL and entry.spared)
        entry.watch = entry.degraded

    # Opinions of services -----------------------------------------------------------------------

    def _hear(self, entry: Service, says: object) -> None:
        """Note what a service's `should_degrade` has said."""
        opinion = bool(says)
        if opinion is entry.says:
            return
        with self.lock:
            if not entry.forgotten:
                entry.says = opinion
        self.service_changed(entry)

    def _ask(self, entry: Service) -> None:
        try:
            says = entry.service.should_degrade()
            if inspect.iscoroutine(says):
                says.close()
                raise TypeError("should_degrade returned a coroutine: define it by async def")
            self._hear(entry, says)
        except Exception:
            self._opinion_failed(entry)

    async def _aask(self, entry: Service) -> None:
        try:
            says = entry.service.should_degrade()
            self._hear(entry, await says if inspect.isawaitable(says) else says)
        except asyncio.CancelledError:
            task: Any = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._opinion_failed(entry)  # it was something of the service's own that was cancelled
        except Exception:
            self._opinion_failed(entry)

    def _opinion_failed(self, entry: Service) -> None:
        text, event = "%s: should_degrade of %s failed", "degradation.should_degrade_failed"
        log_failure(_log, event, text, self.name, entry.name, kind="manager", policy=self.name, service=entry.name)
        self._hear(entry, False)  # else a service that once said yes, and then nothing more, would be spared for ever

    def look(self) -> None:
        """Ask the sync services whether they want to be spared, and work out the mode; the monitor's thread does."""
        for entry in self._with_opinion():
            if kind_of(entry.service.should_degrade) is not Kind.ASYNC:
                self._ask(entry)
        self.evaluate()

    async def alook(self) -> None:
        """Ask all services whether they want to be spared, and work out the mode; the monitor's task does."""
        for entry in self._with_opinion():
            await self._aask(entry)
        self.evaluate()

    def _with_opinion(self) -> list[Service]:
        with self.lock:
            return [entry for entry in self._services.values() if entry.service is not None]

    def _callable(self, name: str) -> Service:
        entry = self._find(name)
        if entry.service is None:
            raise TypeError(f"service {name!r} is a function decorated with @degrade: call the function itself")
        return entry

    def _find(self, name: str) -> Service:
        entry = self._services.get(name)
        if entry is None:
            known = ", ".join(sorted(self._services)) or "none"
            raise UnknownNameError(f"service={name!r}: not registered; known: {known}")
        return entry

    # Monitoring ---------------------------------------------------------------------------------

    def start_monitoring(self) -> None:
        """Look at all services every `monitoring_interval` seconds: in a task inside a running event loop, else in a
        daemon thread. Starting twice is harmless; a forked child has to start its own.
        """
        with self.lock:
            before = self._monitor
            if before is not None and before.serves_here:
                return
            self._monitor = Monitor(self)
            self._monitor.start()
        if before is not None:
            before.stop()

    def stop_monitoring(self) -> None:
        """End the monitoring; harmless if there is none. From any thread; does not wait for a look under way."""
        with self.lock:
            monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.stop()

    @property
    def monitoring(self) -> bool:
        """Whether a monitor is at work."""
        monitor = self._monitor
        return monitor is not None and monitor.alive

    def after_fork(self) -> None:
        """Replace the lock in a forked child; its parent's monitor stayed there."""
        self.lock = threading.RLock()
        self._monitor = None
        self._outbox = Outbox()

    def __repr__(self) -> str:
        return f"<DegradationManager {self.name}: {self._mode.value}, {len(self._services)} services>"


def _check_name(option: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise check.bad(option, value, "must be a non-empty string")


def _awaited(fn: Any) -> Any:
    """A sync method as an async one, for a service that has both."""

    async def execute_full(*args: Any, **kwargs: Any) -> Any:
        result = fn(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    return execute_full


_managers: weakref.WeakSet[DegradationManager] = weakref.WeakSet()


def managers() -> list[DegradationManager]:
    """All managers of the process."""
    return list(_managers)


def _after_fork() -> None:
    for manager in managers():
        manager.after_fork()


registry.fork_hooks.append(_after_fork)
