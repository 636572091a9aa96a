"""The executor of `health_check` steps: looks until something is well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from resilient.orchestrator.executors.calls import Call, resolved, with_context
from resilient.orchestrator.executors.failures import ActionFailedError, pause, reason
from resilient.orchestrator.executors.parameters import Parameters, ShippedExecutor, kind_of
from resilient.orchestrator.executors.probes import Sight, http, place_of, tcp
from resilient.orchestrator.model import RecoveryContext, RecoveryStep


class HealthCheck(NamedTuple):
    """What to look at, how often (seconds), for how long (seconds), and how many looks in a row have to be good."""

    what: str
    probe: Callable[[RecoveryContext], Callable[[], Sight]]
    interval: float
    successes: int
    probe_timeout: float
    deadline: float | None


class HealthCheckExecutor(ShippedExecutor[HealthCheck]):
    """Looks at a URL, a TCP port or with a function until all is well `successes` times in a row.

    Output: `probes` made, `successes` at the end, the last `status` (of HTTP) and `elapsed` seconds.
    """

    allowed = (
        "url",
        "host",
        "port",
        "callable",
        "interval",
        "successes",
        "probe_timeout",
        "deadline",
        "status",
    )

    def read(self, given: Parameters) -> HealthCheck:
        """The settings in the parameters."""
        timeout = given.seconds("probe_timeout", 5.0)
        what, probe = self._target(given, timeout)
        return HealthCheck(
            what,
            probe,
            given.seconds("interval", 1.0),
            given.count("successes", 1),
            timeout,
            given.seconds("deadline", None),
        )

    def _target(
        self, given: Parameters, timeout: float
    ) -> tuple[str, Callable[[RecoveryContext], Callable[[], Sight]]]:
        kind = given.one_of("url", "host", "callable", called="url, host with port, callable")
        host, port = given.text("host", "the name or address of a host", ""), given.count("port", 0, most=65535)
        status = given.count("status", None, least=100, most=599)
        for name, belongs in (("port", "host"), ("status", "url")):
            if given.has(name) and kind not in {None, belongs}:
                given.note(name, f"none without {belongs}", "one")
        if kind == "url":
            url = given.text("url", "a URL", "")
            place = place_of(url) if url else None
            if place is not None and place.problem:
                given.note("url", "a URL such as http://host:8080/health, of http or https", place.problem)
            return (place.text if place else ""), lambda context: http(url, status, timeout)
        if kind == "host":
            if not given.has("port"):
                given.note("port", "the number of a port", "none")
            return f"{host} port {port}", lambda context: tcp(host, port, timeout)
        function = given.named("callable", "a function")
        if kind is not None and not isinstance(function, str) and not callable(function):
            given.note("callable", 'a function, or "package.module:function"', kind_of(function))
        called = function if isinstance(function, str) else getattr(function, "__qualname__", repr(type(function)))
        return str(called), lambda context: _asked(function, context)

    def execute(self, step: RecoveryStep, context: RecoveryContext) -> dict[str, Any]:
        """Look until all is well; ActionFailedError where it is not before the deadline."""
        wanted = self.settings(step)
        probe = wanted.probe(context)
        began = time.monotonic()
        running: Call | None = None
        probes = good = 0
        sight: Any = None
        while True:
            # A probe that hangs is not joined by another: a thread of it would stay behind each time.
            if running is None or running.done:
                probes += 1
                running = Call(probe)
            limit = _limit(wanted, began)
            well, new = _seen(running, context, limit)
            good = good + 1 if well else 0
            # A last probe that the deadline cuts short tells less than the one before it.
            sight = new if sight is None or limit == wanted.probe_timeout else new or sight
            elapsed = time.monotonic() - began
            if good >= wanted.successes:
                status = sight if isinstance(sight, int) and not isinstance(sight, bool) else None
                return {"probes": probes, "successes": good, "status": status, "elapsed": round(elapsed, 3)}
            if wanted.deadline is not None and elapsed + wanted.interval >= wanted.deadline:
                raise ActionFailedError(_not_well(wanted, probes, good, sight))
            pause(context, wanted.interval)


def _limit(wanted: HealthCheck, began: float) -> float:
    if wanted.deadline is None:
        return wanted.probe_timeout
    return max(0.0, min(wanted.probe_timeout, began + wanted.deadline - time.monotonic()))


def _seen(running: Call, context: RecoveryContext, limit: float) -> Sight:
    late = running.abandoned
    try:
        ended = running.wait(context, limit)
    except BaseException:
        running.abandon()
        raise
    if not ended:
        running.abandon()
        return False, None
    if late:  # what it says now says nothing: its time was over before
        return False, None
    try:
        sight: Sight = running.result()
    except Exception as error:  # whatever a probe raises, all is not well
        return False, reason(error)
    return sight


def _asked(function: Any, context: RecoveryContext) -> Callable[[], Sight]:
    ask = with_context(resolved(function), context)

    async def awaited(answer: Any) -> Sight:
        return _judged(await answer)

    def probe() -> Any:
        answer = ask()
        return awaited(answer) if hasattr(answer, "__await__") else _judged(answer)

    return probe


def _judged(answer: Any) -> Sight:
    return bool(
        answer
    ), "it returned what is true" if answer else "it returned None" if answer is None else "it said no"


def _not_well(wanted: HealthCheck, probes: int, good: int, sight: Any) -> str:
    last = f"it answered with status {sight}" if isinstance(sight, int) else sight or "no answer"
    often = "well" if wanted.successes == 1 else f"well {wanted.successes} times in a row"
    count = "1 probe" if probes == 1 else f"{probes} probes"
    return (
        f"{wanted.what} was not {often} within {wanted.deadline:.3g} s: {count}, {good} good at the end; last: {last}"
    )
