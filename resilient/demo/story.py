"""The plot: calm, rush, outage, recovery."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from resilient import registry
from resilient.demo.clients import make_clients
from resilient.demo.lines import Line
from resilient.demo.narrator import Narrator
from resilient.demo.outcome import Outcome, Phase, judge
from resilient.demo.process import Service
from resilient.demo.quiet import one_interrupt, quiet_logs
from resilient.demo.settings import Settings
from resilient.demo.traffic import Tally, Traffic, Uncounted

TICK = 0.05
# On a busy machine the last phase may take this much longer, until so many calls have found the way back.
GRACE = 4.0
ENOUGH = 5

# Name, the share of the whole after which it ends, and its announcement.
PLOT = (
    ("calm", 0.25, "calm: now and then a 503 or a stall, which retries hide from the callers"),
    ("rush", 0.50, "rush: more callers than the bulkhead has places, so the surplus is turned away"),
    ("outage", 0.70, "outage: the service is killed; the breaker opens, stand-ins answer"),
    ("recovery", 1.0, "recovery: the service is started again; the breaker's probes have to find that out"),
)


def run(settings: Settings, show: Callable[[Line], None], linger: Callable[[Outcome], None] | None = None) -> Outcome:
    """Play the story from start to end; `show` gets each line as it happens, in this thread.

    `linger` is called when the story is over, and its callers go on until it returns.
    The policies are made in the registry as it is: a scope of its own here would be out of sight of who watches.
    """
    with quiet_logs(), one_interrupt(), Service(settings) as service:
        stage = _Stage(settings, service, show)
        outcome = stage.play()
        if linger is not None:
            with Traffic(stage.clients, Uncounted(), settings.seed):
                linger(outcome)
        return outcome


class _Stage:
    """The actors of one run."""

    def __init__(self, settings: Settings, service: Service, show: Callable[[Line], None]) -> None:
        begin = time.monotonic()
        self.settings = settings
        self.service = service
        self.narrator = Narrator(begin, show)
        self.tally = Tally(begin)
        self.clients = make_clients(settings, service.port, self.narrator.hear_probe)
        self.traffic = Traffic(self.clients, self.tally, settings.seed)
        self.killed_at = self.restarted_at = 0.0
        self._summed_up = 0

    def play(self) -> Outcome:
        """All phases, then the pieces of the report."""
        narrator = self.narrator
        phases = []
        with registry.subscribe(narrator.hear, *narrator.HEARS), self.traffic:
            for name, share, text in PLOT:
                starts = narrator.now()
                narrator.announce(text)
                self._begin(name)
                self._wait(share * self.settings.seconds)
                phases.append(Phase(name, starts, narrator.now(), text))
            end = self.settings.seconds
            if not self._settled():
                self._wait(end + GRACE, self._settled)
                end = narrator.now()
        narrator.tell()
        return Outcome(
            settings=self.settings,
            phases=tuple(phases),
            killed_at=self.killed_at,
            restarted_at=self.restarted_at,
            lines=tuple(narrator.lines),
            transitions=tuple(narrator.transitions),
            event_counts=dict(sorted(narrator.counts.items())),
            # A call that begins while the callers are being stopped is not worth a second of its own.
            seconds=tuple(self.tally.seconds(math.ceil(end))),
            calls=self.tally.made,
            snapshot=dict(registry.snapshot()),
            verdict=judge(narrator.transitions, self.killed_at, self._ok_since_closing()),
        )

    def _begin(self, phase: str) -> None:
        service, note = self.service, self.narrator.note
        self.traffic.rush(phase == "rush")
        if phase == "calm":
            note(f"listens on port {service.port}, process {service.pid}")
        elif phase == "outage":
            # Said before it is done: what follows from it is heard while the process is still dying.
            note(f"process {service.pid} is killed with SIGKILL")
            self.killed_at = self.narrator.now()
            service.kill()
        elif phase == "recovery":
            service.start()
            self.restarted_at = self.narrator.now()
            note(f"listens again on port {service.port}, process {service.pid}")

    def _settled(self) -> bool:
        changes = self.narrator.transitions
        return not changes or (changes[-1].new == "closed" and self._ok_since_closing() >= ENOUGH)

    def _ok_since_closing(self) -> int:
        changes = self.narrator.transitions
        return self.tally.ok_since(changes[-1].at) if changes else 0

    def _wait(self, end: float, early: Callable[[], bool] = lambda: False) -> None:
        while True:
            self.narrator.tell()
            if self.narrator.now() >= self._summed_up + 1:
                self._summed_up = int(self.narrator.now())
                self.narrator.sum_up(self.tally.total())
            if self.narrator.now() >= end or early():
                return
            time.sleep(max(0.0, min(TICK, end - self.narrator.now())))
