"""What a simulated outage showed: numbers, a timeline, and files of them."""

from __future__ import annotations

import dataclasses
import html
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resilient import _checks as check
from resilient.testing.recovery.result import TimelineEvent
from resilient.testing.simulation.text import amount, recovery, seconds


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of a simulation, from `time` on, in seconds since it began.

    `calls`, `dependency_calls`: made in it, by users and to the dependency. `successes`, of which `degraded` were
    answered by a fallback or a cache, and `failures`: user calls that ended in it. `rejected`: user calls that a
    policy turned away, whatever came of them. `breakers`: by name, how many are in which state at its end.
    """

    time: float
    seconds: float
    calls: int
    successes: int
    degraded: int
    failures: int
    rejected: int
    dependency_calls: int
    breakers: Mapping[str, Mapping[str, int]]
    events: tuple[TimelineEvent, ...] = ()

    @property
    def goodput(self) -> float:
        """Successful user calls per second."""
        return self.successes / self.seconds

    @property
    def states(self) -> Mapping[str, str]:
        """The state that most breakers of each name are in; with one client, the state of each breaker."""
        return {name: max(counts, key=lambda state: counts[state]) for name, counts in self.breakers.items() if counts}


@dataclass(frozen=True)
class Simulation:
    """What a simulated outage showed. Times are seconds, and moments are seconds since the simulation began.

    `calls`: user calls; each ends as one of `successes` (`degraded` of them were answered by a fallback or a cache) or
    `failures`, or was `unfinished` when the simulation ended. `rejected`: user calls that a policy turned away at least
    once, whatever came of them. `dependency_calls`: calls that reached the dependency; `outage_calls` and
    `outage_dependency_calls` count the user calls that began in the outage, and those made for them.
    `time_to_recover`: from the outage's end until calls are answered as before it, for good; None where they are not,
    and where no call began in the outage.
    `events_left_out`: how many events are missing from the timeline, which holds the first ones only.
    """

    pipeline: str
    seed: int | str
    outage: tuple[float, float]
    failure: str
    load: float
    clients: int
    duration: float
    calls: int
    successes: int
    degraded: int
    failures: int
    unfinished: int
    rejected: int
    dependency_calls: int
    outage_calls: int
    outage_dependency_calls: int
    time_to_recover: float | None
    average: float
    p50: float
    p95: float
    p99: float
    timeline: tuple[Interval, ...]
    events_left_out: int = 0

    @property
    def amplification(self) -> float:
        """Calls that reached the dependency, per user call."""
        return self.dependency_calls / self.calls if self.calls else 0.0

    @property
    def outage_amplification(self) -> float:
        """The same for the user calls that began during the outage."""
        return self.outage_dependency_calls / self.outage_calls if self.outage_calls else 0.0

    @property
    def goodput(self) -> float:
        """Successful user calls per second."""
        return self.successes / self.duration

    @property
    def success_rate(self) -> float:
        """The share of user calls that succeeded."""
        return self.successes / self.calls if self.calls else 0.0

    @property
    def events(self) -> tuple[TimelineEvent, ...]:
        """What the policies did, in order: changes of state."""
        return tuple(event for interval in self.timeline for event in interval.events)

    def explain(self) -> str:
        """Some lines with the numbers that matter."""
        return "\n".join(_lines(self))

    def __str__(self) -> str:
        return self.explain()

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain dicts, lists, numbers and strings, derived numbers included."""
        derived = ("amplification", "outage_amplification", "goodput", "success_rate")
        return dataclasses.asdict(self) | {name: getattr(self, name) for name in derived}

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_svg(self) -> str:
        """A plot: load, goodput and calls to the dependency over time, the outage, and the states of the breakers."""
        from resilient.testing.simulation.plot import plot

        return plot(self)

    def to_markdown(self) -> str:
        """The numbers as a table."""
        rows = [f"| {name} | {value} |" for name, value in _numbers(self)]
        return "\n".join([f"# {_title(self)}", "", "| what | value |", "|---|---|", *rows, ""])

    def to_html(self) -> str:
        """One page that needs nothing else: the plot and the numbers."""
        rows = "".join(f"<tr><th>{html.escape(n)}</th><td>{html.escape(v)}</td></tr>" for n, v in _numbers(self))
        title = html.escape(_title(self))
        return _PAGE.format(title=title, plot=self.to_svg(), rows=rows)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it to a file; the suffix says what: .svg, .json, .html or .md. Returns the path.

        Raises ConfigurationError for another suffix.
        """
        target = Path(path)
        made = _FORMATS.get(target.suffix.lower())
        if made is None:
            raise check.bad("path", str(path), f"must end in {', '.join(_FORMATS)}, which says what to write")
        target.write_text(made(self), encoding="utf-8")
        return target


_FORMATS: dict[str, Callable[[Simulation], str]] = {
    ".svg": Simulation.to_svg,
    ".json": Simulation.to_json,
    ".html": Simulation.to_html,
    ".md": Simulation.to_markdown,
}

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.4rem }} svg {{ width: 100%; height: auto }}
th {{ text-align: left; font-weight: normal; padding-right: 2rem }} td {{ font-variant-numeric: tabular-nums }}
</style></head><body>
<h1>{title}</h1>
{plot}
<table>{rows}</table>
</body></html>
"""


def _title(one: Simulation) -> str:
    return f"{one.pipeline}: outage from {amount(one.outage[0])} s to {amount(one.outage[1])} s ({one.failure})"


def _clients(one: Simulation) -> str:
    return "1 client" if one.clients == 1 else f"{one.clients:,} clients"


def _lines(one: Simulation) -> Iterator[str]:
    yield _title(one)
    yield f"  {amount(one.load)} calls/s of {_clients(one)} for {amount(one.duration)} s, seed {one.seed}"
    fallback = f" ({one.degraded:,} by a fallback)" if one.degraded else ""
    unfinished = f", {one.unfinished:,} unfinished" if one.unfinished else ""
    yield (
        f"  {one.calls:,} calls: {one.successes:,} answered{fallback}, {one.failures:,} failed{unfinished}; "
        f"{one.rejected:,} turned away"
    )
    yield f"  goodput {amount(one.goodput)} calls/s"
    yield f"  amplification {one.amplification:.2f}, during the outage {one.outage_amplification:.2f}"
    yield f"  response time p50 {seconds(one.p50)}, p95 {seconds(one.p95)}, p99 {seconds(one.p99)}"
    yield f"  {recovery(one.time_to_recover)}"


def _numbers(one: Simulation) -> Iterator[tuple[str, str]]:
    yield "load", f"{amount(one.load)} calls/s of {_clients(one)} for {amount(one.duration)} s"
    yield "seed", str(one.seed)
    for name in ("calls", "successes", "degraded", "failures", "unfinished", "rejected"):
        yield name, f"{getattr(one, name):,}"
    yield "calls to the dependency", f"{one.dependency_calls:,}"
    yield "amplification", f"{one.amplification:.2f}"
    yield "amplification during the outage", f"{one.outage_amplification:.2f}"
    yield "goodput", f"{amount(one.goodput)} calls/s"
    for name in ("average", "p50", "p95", "p99"):
        yield f"response time, {name}", seconds(getattr(one, name))
    yield "recovery", recovery(one.time_to_recover)
