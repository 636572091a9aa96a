"""An experiment of Chaos Toolkit as the workload and the fault of a scenario, carried out by its own library."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from importlib import import_module
from typing import Any

from resilient.errors import ConfigurationError, ResilienceError
from resilient.testing.recovery.configs import ErrorInjectionConfig, ErrorInjectionType

EXTRA = "pip install resilient-toolkit[chaostoolkit]"
HYPOTHESIS = "steady-state-hypothesis"

_MOST_BACKGROUND = 32


class SteadyStateError(ResilienceError):
    """A probe of the hypothesis failed, or its answer was outside its tolerance."""


class ActivityFailedError(ResilienceError):
    """An action of the method or of the rollbacks failed, so that something is not broken, or not mended."""


def chaoslib(module: str) -> Any:
    """A module of Chaos Toolkit's library; ConfigurationError where it is not installed."""
    try:
        found = import_module(f"chaoslib.{module}")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("chaoslib"):
            raise
        raise ConfigurationError(f"experiments need chaostoolkit, which is not installed: {EXTRA}") from None
    logger = logging.getLogger("chaostoolkit")
    if not logger.handlers:
        # Or every probe that fails, as it is meant to, would be a line on the standard error.
        logger.addHandler(logging.NullHandler())
    return found


class Experiment:
    """The activities of an experiment: `workload` is its hypothesis, `fault` its method and its rollbacks.

    Configuration and secrets are resolved when the first activity is carried out. Raises ConfigurationError where
    the experiment is not valid, or chaostoolkit is not installed.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        # A copy: whatever the library writes into it does not reach the scenario's source.
        self._table = deepcopy({**table, "method": _with_references(table)})
        _check(self._table)
        self._lock = threading.Lock()
        self._resolved: tuple[Any, Any] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._behind: list[tuple[Mapping[str, Any], Future[Any]]] = []

    @property
    def workload(self) -> Callable[[], None]:
        """One operation: all probes of the hypothesis hold, or SteadyStateError is raised."""
        return self._check_hypothesis

    @property
    def fault(self) -> ErrorInjectionConfig:
        """What begins with the method, and ends with the rollbacks."""

        def begin() -> None:
            self._begin()

        begin.__qualname__ = ", ".join(str(one["name"]) for one in self._table["method"])
        hooks = {"begin": begin, "end": self._end}
        return ErrorInjectionConfig(ErrorInjectionType.CUSTOM, parameters=hooks)

    def _settings(self) -> tuple[Any, Any]:
        """The configuration and the secrets, resolved once."""
        with self._lock:
            if self._resolved is None:
                configuration = chaoslib("configuration")
                given = configuration.load_configuration(self._table.get("configuration", {}))
                secrets = chaoslib("secret").load_secrets(self._table.get("secrets", {}), given)
                self._resolved = configuration.load_dynamic_configuration(given, secrets), secrets
            return self._resolved

    def _check_hypothesis(self) -> None:
        configuration, secrets = self._settings()
        run = chaoslib("hypothesis").run_steady_state_hypothesis
        state = run(self._table, configuration, secrets, dry=None, event_registry=None)
        if state["steady_state_met"]:
            return
        last = state["probes"][-1]
        raise SteadyStateError(f"probe {last['activity'].get('name')!r}: {_reason(last) or 'outside its tolerance'}")

    def _begin(self) -> None:
        for activity in self._table["method"]:
            if activity.get("background"):
                self._pool = self._pool or ThreadPoolExecutor(_MOST_BACKGROUND, "resilient-experiment")
                self._behind.append((activity, self._pool.submit(self._run, activity)))
            else:
                _refuse_failed(activity, self._run(activity))

    def _end(self) -> None:
        """Wait for what goes on in the background, and carry out all rollbacks, whatever becomes of each."""
        pool, self._pool = self._pool, None
        behind, self._behind = self._behind, []
        if pool is not None:
            pool.shutdown()
        rollbacks = self._table.get("rollbacks", [])
        runs = [(one, future.result()) for one, future in behind] + [(one, self._run(one)) for one in rollbacks]
        for activity, run in runs:
            _refuse_failed(activity, run)

    def _run(self, activity: Mapping[str, Any]) -> Any:
        configuration, secrets = self._settings()
        return chaoslib("activity").execute_activity(
            experiment=self._table, activity=activity, configuration=configuration, secrets=secrets, dry=None
        )


def _reason(run: Mapping[str, Any]) -> str:
    """Why an activity failed; empty where it did not."""
    lines = run.get("exception") or ()
    return str(lines[-1]).strip() if run.get("status") == "failed" and lines else ""


def _refuse_failed(activity: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    # A probe among them only looks.
    if run["status"] == "failed" and activity["type"] == "action":
        raise ActivityFailedError(f"action {activity['name']!r} of the experiment failed: {_reason(run)}")


def activities(table: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The activities of an experiment that may be none, by where they stand."""
    hypothesis = table.get(HYPOTHESIS)
    found = {
        HYPOTHESIS: hypothesis.get("probes") if isinstance(hypothesis, Mapping) else None,
        "method": table.get("method"),
        "rollbacks": table.get("rollbacks"),
    }
    return {name: one if isinstance(one, list) else [] for name, one in found.items()}


def _with_references(table: Mapping[str, Any]) -> list[Any]:
    """The method, with activities in the place of references to them."""
    places = activities(table)
    named = {one.get("name"): one for group in places.values() for one in group if isinstance(one, Mapping)}

    def looked_up(one: Any) -> Any:
        if not isinstance(one, Mapping) or "ref" not in one:
            return one
        if one["ref"] not in named:
            raise ConfigurationError(f"method refers to {one['ref']!r}, and no activity has this name")
        return named[one["ref"]]

    return [looked_up(one) for one in places["method"]]


def _check(table: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for what cannot be carried out."""
    places = activities(table)
    if not places[HYPOTHESIS]:
        raise ConfigurationError(f"has no {HYPOTHESIS} with probes, which are the workload")
    if not places["method"]:
        raise ConfigurationError("has no method with activities, so nothing would go wrong")
    check = chaoslib("experiment").ensure_experiment_is_valid
    try:
        check(dict(table))
    except chaoslib("exceptions").ChaosException as error:
        raise ConfigurationError(f"is not valid: {error}") from None
    except Exception as error:
        raise ConfigurationError(f"is not valid: Chaos Toolkit raised {type(error).__name__}") from error
    if strays := ", ".join(controlled(table, places)):
        raise ConfigurationError(f"has controls, which are not carried out: {strays}; leave them out")


def controlled(table: Mapping[str, Any], places: Mapping[str, Iterable[Any]]) -> list[str]:
    """Where an experiment has controls."""
    found = ["the experiment"] if table.get("controls") else []
    hypothesis = table.get(HYPOTHESIS)
    found += [HYPOTHESIS] if isinstance(hypothesis, Mapping) and hypothesis.get("controls") else []
    inside = (one for group in places.values() for one in group if isinstance(one, Mapping))
    return found + [f"activity {one.get('name')!r}" for one in inside if one.get("controls")]
