"""The instruments of OpenTelemetry for the metrics of the catalogue, and what feeds them."""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any

from opentelemetry import context
from opentelemetry.metrics import (
    CallbackOptions,
    Histogram,
    Meter,
    MeterProvider,
    Observation,
    get_meter_provider,
)

from resilient.events import log_failure
from resilient.meters import METERS, Distribution
from resilient.metrics.catalogue import CATALOGUE, Definition, Together, Type
from resilient.metrics.gathering import Gathered, Gatherer

_log = logging.getLogger("resilient.metrics")

SCOPE = "resilient"
RETRYING = "recovery_retry_latency_seconds"
#: Which labels of a histogram are names, and of what: as the gatherer bounds their number.
_KINDS: dict[str, tuple[str | None, ...]] = {
    RETRYING: ("retry",),
    "recovery_timeout_duration_seconds": ("timeout",),
    "recovery_degradation_mode_duration_seconds": ("manager", None),
    "recovery_step_duration_seconds": ("plan", "step", None),
}
#: Calls without a retry that one collection adds to their histogram, about. An API without weights takes them one by
#: one, which keeps an SDK busy for 5 to 15 us each; those beyond wait for the next collection.
MOST_ZEROS = 50_000


def otel_name(definition: Definition) -> str:
    """The name of a metric in OpenTelemetry, where counters have no ending."""
    return definition.name.removesuffix("_total")


def is_additive(definition: Definition) -> bool:
    """Whether the values of a gauge may be added up, over names and processes."""
    return definition.together is Together.SUM and not definition.by_process


class Feed:
    """What one provider is told, from `start` to `stop`."""

    def __init__(self, gatherer: Gatherer, histograms: dict[str, Histogram]) -> None:
        self._gatherer = gatherer
        self._histograms = histograms
        self._gathered: Gathered = {}
        self._served: set[str] = set()
        #: Observations that the histogram of retries has, or that were before its time.
        self._recorded: Counter[tuple[str, ...]] = Counter()
        self.after_fork()

    def after_fork(self) -> None:
        """Replace the locks in a forked child."""
        self._collecting = threading.RLock()
        # Another lock, as a collection reads policies under the first one, and others tell of observations meanwhile.
        self._counting = threading.RLock()
        self._gatherer.after_fork()

    def start(self) -> None:
        """Listen from now on."""
        METERS.listeners = (*METERS.listeners, self.listen)
        for labels, seen in self._gatherer.gather()[RETRYING].items():
            assert isinstance(seen, Distribution)
            self._recorded[labels] = seen.number

    def stop(self) -> None:
        """Listen no more."""
        METERS.listeners = tuple(one for one in METERS.listeners if one != self.listen)

    def listen(self, metric: str, labels: tuple[str, ...], seconds: float) -> None:
        """Pass an observation on. What an SDK raises must not reach the call in which this is."""
        try:
            named = tuple(
                value if kind is None else self._gatherer.label(kind, value)
                for kind, value in zip(_KINDS[metric], labels, strict=True)
            )
            if metric == RETRYING:
                with self._counting:
                    self._recorded[named] += 1
            self._histograms[metric].record(seconds, dict(zip(CATALOGUE[metric].labels, named, strict=True)))
        except Exception:
            text = "OpenTelemetry did not take an observation of %s"
            log_failure(_log, "metrics.otel_failed", text, metric, kind="metrics", policy=labels[0])

    def observations(self, definition: Definition) -> list[Observation]:
        """The series of one metric; who asks for the same one again has begun another collection."""
        with self._collecting:
            if definition.name in self._served or not self._gathered:
                self._gathered = self._gatherer.gather()
                self._served.clear()
                self._add_zeros()
            self._served.add(definition.name)
            series = self._gathered[definition.name]
        return [
            Observation(value, dict(zip(definition.labels, values, strict=True)))
            for values, value in series.items()
            if not isinstance(value, Distribution) and value == value  # NaN: nothing to say yet
        ]

    def _add_zeros(self) -> None:
        """Add the calls that nobody tells of: those that needed no retry."""
        due: dict[tuple[str, ...], int] = {}
        for labels, seen in self._gathered[RETRYING].items():
            assert isinstance(seen, Distribution)
            due[labels] = max(0, seen.number - self._recorded[labels])
        share = min(1.0, MOST_ZEROS / max(1, sum(due.values())))
        # Or a span that happens to be current here would become the example of calls that it never saw.
        token = context.attach(context.Context())
        try:
            for labels, number in due.items():
                self._add_zeros_of(labels, math.ceil(number * share))
        finally:
            context.detach(token)

    def _add_zeros_of(self, labels: tuple[str, ...], number: int) -> None:
        with self._counting:
            self._recorded[labels] += number
        record = self._histograms[RETRYING].record
        attributes = dict(zip(CATALOGUE[RETRYING].labels, labels, strict=True))
        for _ in range(number):
            record(0.0, attributes)


class Instruments:
    """All instruments of one provider. They stay as long as it does; what feeds them comes and goes."""

    def __init__(self, provider: MeterProvider) -> None:
        self._feed: Feed | None = None
        meter = provider.get_meter(SCOPE, str(import_module("resilient").__version__))
        self._histograms: dict[str, Histogram] = {}
        for definition in CATALOGUE.values():
            if definition.type is Type.HISTOGRAM:
                self._histograms[definition.name] = _histogram(meter, definition)
            else:
                self._create_observable(meter, definition)

    def start(self, gatherer: Gatherer) -> None:
        """Report what the gatherer reads."""
        self._feed = Feed(gatherer, self._histograms)
        self._feed.start()

    def stop(self) -> None:
        """Report nothing more."""
        if self._feed is not None:
            self._feed.stop()
            self._feed = None

    def after_fork(self) -> None:
        """Replace the locks in a forked child."""
        if self._feed is not None:
            self._feed.after_fork()

    def _create_observable(self, meter: Meter, definition: Definition) -> None:
        create: Callable[..., object] = meter.create_observable_gauge
        if definition.type is Type.COUNTER:
            create = meter.create_observable_counter
        elif is_additive(definition):
            create = meter.create_observable_up_down_counter
        callback = partial(self._observe, definition)
        create(otel_name(definition), callbacks=[callback], unit=_unit(definition), description=definition.text)

    def _observe(self, definition: Definition, options: CallbackOptions) -> list[Observation]:
        feed = self._feed
        return [] if feed is None else feed.observations(definition)


def _unit(definition: Definition) -> str:
    return "s" if definition.name.endswith("_seconds") else ""


def _histogram(meter: Meter, definition: Definition) -> Histogram:
    advice: dict[str, Any] = {"explicit_bucket_boundaries_advisory": definition.buckets}
    if not advice.keys() <= signature(Meter.create_histogram).parameters.keys():
        advice = {}  # an API of before 1.30
    return meter.create_histogram(otel_name(definition), unit="s", description=definition.text, **advice)


#: Kept for each provider, since one made again would be taken for a duplicate.
_of_provider: weakref.WeakKeyDictionary[MeterProvider, Instruments] = weakref.WeakKeyDictionary()
#: Those of the global provider, which is another object as long as the application has not set it.
_of_default: list[Instruments] = []


def known_instruments_of(provider: MeterProvider) -> Instruments | None:
    """The instruments that a provider has, if they were made."""
    found = _of_provider.get(provider)
    if found is None and _of_default and provider is get_meter_provider():
        return _of_default[0]
    return found


def instruments_of(provider: MeterProvider) -> Instruments:
    """The instruments of a provider, made when they are first wanted."""
    found = known_instruments_of(provider)
    if found is None:
        found = _of_provider[provider] = Instruments(provider)
        if provider is get_meter_provider():
            _of_default.append(found)
    return found
