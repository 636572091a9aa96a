"""OpenTelemetry: the same numbers as metrics, and what went wrong as events of the caller's span.

Nothing of OpenTelemetry is imported before it is asked for, so that the package does without it.
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from resilient import _checks as check
from resilient._registry import registry as policies
from resilient.errors import ConfigurationError
from resilient.metrics.gathering import DEFAULT_NAMES, Gatherer
from resilient.metrics.prometheus import begin_timing

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from resilient.metrics.otel_meters import Instruments

EXTRA = "pip install resilient-toolkit[otel]"

_lock = threading.Lock()
#: Those that are in use, and whether span events were wanted with them.
_installed: dict[Instruments, bool] = {}


def install_otel(
    meter_provider: MeterProvider | None = None, *, tracer_events: bool = True, max_names: int = DEFAULT_NAMES
) -> None:
    """Report all policies of the process to OpenTelemetry: `resilient.metrics.install_otel()`.

    Counters and gauges are read when the provider collects; histograms are told where a call went wrong. Retries,
    changes of breakers, timeouts, rejections and fallbacks become events of the span that is current in the guarded
    call, where there is one. Calling it twice for one provider is harmless.

    Args:
        meter_provider: the provider to report to; the global one, if not given, also where that is set later.
        tracer_events: whether to add events to spans.
        max_names: how many names of each kind (retry, circuit_breaker, …) get series of their own. The others share the
            name "other", and a warning is logged once.

    Raises:
        TypeError: `meter_provider` is no MeterProvider.
        ConfigurationError: OpenTelemetry is not installed, `tracer_events` is neither True nor False, or `max_names` is
            no positive number.
    """
    check.flag("tracer_events", tracer_events)
    gatherer = Gatherer(policies, max_names)
    meters, spans = _part("otel_meters"), _part("otel_spans")
    with _lock:
        instruments = meters.instruments_of(_checked("install_otel", meter_provider, meters))
        if instruments not in _installed:
            begin_timing()
            instruments.start(gatherer)
        _installed[instruments] = _installed.get(instruments, False) or tracer_events
        if tracer_events:
            spans.start()


def uninstall_otel(meter_provider: MeterProvider | None = None) -> None:
    """Report to a provider (the global one, if not given) no more; harmless where it was not reported to.

    Its instruments stay, since OpenTelemetry cannot remove any, and report nothing. What they have reported of counts
    remains with the provider. Span events end with the last provider for which they were wanted.

    Raises:
        TypeError: `meter_provider` is no MeterProvider.
        ConfigurationError: OpenTelemetry is not installed.
    """
    meters, spans = _part("otel_meters"), _part("otel_spans")
    provider = _checked("uninstall_otel", meter_provider, meters)
    with _lock:
        instruments = meters.known_instruments_of(provider)
        if instruments is None or instruments not in _installed:
            return
        instruments.stop()
        del _installed[instruments]
        if not any(_installed.values()):
            spans.stop()


def _part(name: str) -> Any:
    """A module that needs OpenTelemetry."""
    try:
        return import_module(f"resilient.metrics.{name}")
    except ImportError as error:
        raise ConfigurationError(f"install_otel() needs OpenTelemetry ({error}): {EXTRA}") from error


def _checked(function: str, given: Any, meters: Any) -> Any:
    """The provider meant."""
    if given is None:
        return meters.get_meter_provider()
    if not isinstance(given, meters.MeterProvider):
        raise TypeError(
            f"{function}(meter_provider={given!r}): must be an opentelemetry.metrics.MeterProvider, "
            "or None for the global one"
        )
    return given


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = threading.Lock()
    for instruments in _installed:
        instruments.after_fork()


policies.fork_hooks.append(_after_fork)
