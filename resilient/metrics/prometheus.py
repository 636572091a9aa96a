"""The numbers as Prometheus wants them: a collector, asked at each scrape."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.samples import Sample

from resilient._registry import registry as policies
from resilient.errors import ConfigurationError
from resilient.meters import METERS, Distribution
from resilient.metrics.catalogue import CATALOGUE, Definition, Type
from resilient.metrics.gathering import DEFAULT_NAMES, Gatherer, Series
from resilient.metrics.multiprocess import Files, bounds_of, is_multiprocess

#: By the values of a series' labels: all its labels, and those of its buckets.
Known = dict[tuple[str, ...], list[dict[str, str]]]


class Collector:
    """Reads the policies' counters when Prometheus asks, and yields them as its families."""

    def __init__(self, gatherer: Gatherer) -> None:
        self._gatherer = gatherer
        #: The labels that samples were given, by metric; making ten thousand dicts would take longer than reading.
        self._labels: dict[str, Known] = {name: {} for name in CATALOGUE}

    def describe(self) -> Iterator[Metric]:
        """The families without samples, by which a registry finds names that are taken."""
        return (family(definition, {}, {}) for definition in CATALOGUE.values())

    def collect(self) -> Iterator[Metric]:
        """The families of now."""
        gathered = self._gatherer.gather()
        for name, definition in CATALOGUE.items():
            yield family(definition, gathered[name], self._labels[name])

    def close(self) -> None:
        """Nothing is open."""

    def after_fork(self) -> None:
        """Make the lock usable in a forked child, whoever held it."""
        self._gatherer.after_fork()


class FilesCollector(Collector):
    """In prometheus_client's multiprocess mode its own collector reads the files of all processes; this keeps ours."""

    def __init__(self, gatherer: Gatherer) -> None:
        super().__init__(gatherer)
        self._files = Files(gatherer)

    def collect(self) -> Iterator[Metric]:
        """Nothing: the files are what counts, and they are brought up to date."""
        self._files.write()
        return iter(())

    def close(self) -> None:
        """Write no more."""
        self._files.close()


def family(definition: Definition, series: Series, known: Known) -> Metric:
    """A metric with its series, as prometheus_client has it; `known` are the labels of earlier ones, and gets more."""
    name, text = definition.name, definition.text
    # Samples by hand: a family's `add_metric` copies and checks what is known to be right, at twice the price.
    if definition.type is Type.HISTOGRAM:
        found: Metric = HistogramMetricFamily(name, text)
        for values, value in series.items():
            assert isinstance(value, Distribution)
            found.samples.extend(_of_histogram(name, known.get(values) or _learn(definition, values, known), value))
        return found
    found = CounterMetricFamily(name, text) if definition.type is Type.COUNTER else GaugeMetricFamily(name, text)
    add = found.samples.append
    for values, value in series.items():
        labels = known.get(values) or _learn(definition, values, known)
        add(Sample(name, labels[0], value))  # type: ignore[arg-type]
    return found


def _learn(definition: Definition, values: tuple[str, ...], known: Known) -> list[dict[str, str]]:
    """The labels of a series; of a histogram, those of each bucket behind them."""
    labels = dict(zip(definition.labels, values, strict=True))
    bounds = bounds_of(definition) if definition.buckets else ()
    found = known[values] = [labels, *({**labels, "le": bound} for bound in bounds)]
    return found


def _of_histogram(name: str, labels: list[dict[str, str]], distribution: Distribution) -> Iterator[Sample]:
    bucket, total = f"{name}_bucket", 0
    for place, count in enumerate(distribution.counts, 1):
        total += count
        yield Sample(bucket, labels[place], total)
    yield Sample(f"{name}_count", labels[0], total)
    yield Sample(f"{name}_sum", labels[0], distribution.sum)


_installed: weakref.WeakKeyDictionary[CollectorRegistry, Collector] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def install(registry: CollectorRegistry | None = None, *, max_names: int = DEFAULT_NAMES) -> None:
    """Let Prometheus see all policies of the process: `resilient.metrics.install()`.

    The policies count anyway; their counters are read when Prometheus asks. Calling it twice is harmless.

    Where the environment variable PROMETHEUS_MULTIPROC_DIR is set, the numbers go into prometheus_client's files in
    that folder about once a second, so that its MultiProcessCollector adds up all processes.

    Args:
        registry: prometheus_client's registry to be seen in; its default one, if not given.
        max_names: how many names of each kind (retry, circuit_breaker, …) get series of their own. The others share the
            name "other", and a warning is logged once.

    Raises:
        TypeError: `registry` is no CollectorRegistry.
        ConfigurationError: the registry has metrics of these names already, or `max_names` is no positive number.
    """
    target = REGISTRY if registry is None else registry
    if not isinstance(target, CollectorRegistry):
        raise TypeError(
            f"install(registry={registry!r}): must be a prometheus_client.CollectorRegistry, or None for its default"
        )
    with _lock:
        if target in _installed:
            return
        gatherer = Gatherer(policies, max_names)
        collector = FilesCollector(gatherer) if is_multiprocess() else Collector(gatherer)
        try:
            target.register(collector)
        except ValueError as error:
            collector.close()
            raise ConfigurationError(
                f"install(): the registry has metrics of the same names already ({error}); "
                "use a CollectorRegistry of its own"
            ) from error
        _installed[target] = collector
        begin_timing()


def uninstall(registry: CollectorRegistry | None = None) -> None:
    """Take the metrics out of a registry again; harmless where they are not in it."""
    target = REGISTRY if registry is None else registry
    with _lock:
        collector = _installed.pop(target, None)
        if collector is None:
            return
        target.unregister(collector)
        collector.close()


def begin_timing() -> None:
    """From now on, retries time what they add to calls."""
    if not METERS.on:
        for policy in policies.everyone("retry"):
            policy.measure_from_now()
        METERS.on = True


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = threading.Lock()
    for collector in list(_installed.values()):
        collector.after_fork()


policies.fork_hooks.append(_after_fork)
