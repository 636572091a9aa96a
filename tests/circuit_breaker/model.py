"""A breaker told again in the plainest way: lists of calls, a number for each stretch of time, no fast path."""

from dataclasses import dataclass, field

from resilient.circuit_breaker.state import CircuitState

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
ISOLATED, DISABLED = CircuitState.ISOLATED, CircuitState.DISABLED


@dataclass(eq=False)
class Permit:
    """What the model knows of one admitted call."""

    stretch: int
    until: float | None = None


@dataclass
class Model:
    """Times are whole seconds and a time window lasts ten, so that each slice of it is one second."""

    options: dict
    state: CircuitState = CLOSED
    stretch: int = 0
    until: float = 0.0
    rounds: int = 0
    streak: int = 0
    good: int = 0
    bad: int = 0
    failures: int = 0
    successes: int = 0
    calls: list = field(default_factory=list)
    probes: list = field(default_factory=list)
    changes: list = field(default_factory=list)

    def go(self, state):
        if state is not self.state:
            self.changes.append((self.state, state))
        self.state = state
        self.stretch += 1
        self.streak = self.good = self.bad = 0
        self.calls, self.probes = [], []

    def tick(self, now):
        if self.state is OPEN and now >= self.until:
            self.go(HALF_OPEN)

    def living(self, now):
        return [probe for probe in self.probes if probe.until > now]

    def admit(self, now):
        """Return a permit, or the reason of the refusal."""
        self.tick(now)
        if self.state is OPEN:
            return "open"
        if self.state is ISOLATED:
            return "isolated"
        if self.state is not HALF_OPEN:
            return Permit(self.stretch)
        if len(self.living(now)) + self.good + self.bad >= self.options["half_open_calls"]:
            return "probing"
        lease = self.options["probe_timeout"] or self.options["recovery_timeout"] or 60.0
        self.probes.append(Permit(self.stretch, now + lease))
        return self.probes[-1]

    def ignored(self, permit):
        if permit in self.probes:
            self.probes.remove(permit)

    def ended(self, permit, now, failed, slow, draw):
        if permit.stretch != self.stretch or self.state is DISABLED:
            return
        if permit.until is not None:
            if permit not in self.probes:
                return
            self.probes.remove(permit)
            if now >= permit.until:
                return
        self.failures += failed
        self.successes += not failed
        if self.state is HALF_OPEN:
            self.probe_ended(now, failed or slow, draw)
        else:
            self.streak = self.streak + 1 if failed else 0
            self.calls.append((now, failed, slow))
            if self.must_open(now):
                self.open(now, draw)

    def probe_ended(self, now, bad, draw):
        self.bad += bad
        self.good += not bad
        if self.good + self.bad < self.options["half_open_calls"]:
            return
        if not self.bad:
            self.rounds = 0
            self.go(CLOSED)
        elif self.bad > self.good:
            self.rounds += 1
            self.open(now, draw)
        else:
            self.go(HALF_OPEN)

    def open(self, now, draw):
        options = self.options
        longest = options["max_recovery_timeout"] or float("inf")
        period = min(options["recovery_timeout"] * options["recovery_multiplier"] ** self.rounds, longest)
        period = min(period * (1 + options["recovery_jitter"] * (2 * draw - 1)), longest)
        self.go(OPEN)
        self.until = now + period

    def window(self, now):
        """Return the numbers of calls, failures and slow calls in the window."""
        if self.options.get("window_duration"):
            held = [call for call in self.calls if now - call[0] < 11]
        else:
            held = self.calls[-(self.options.get("window_size") or 100) :]
        return len(held), sum(failed for _, failed, _ in held), sum(slow for _, _, slow in held)

    def must_open(self, now):
        get = self.options.get
        calls, failures, slow = self.window(now)
        threshold = get("failure_threshold", 5)
        in_time = get("window_duration") is not None
        minimum = get("minimum_calls") or (10 if in_time else get("window_size") or 100)
        enough = calls >= minimum
        if get("slow_call_duration") and enough and slow / calls >= (get("slow_call_rate_threshold") or 1.0):
            return True
        if get("failure_rate_threshold"):
            return enough and failures / calls >= get("failure_rate_threshold")
        if in_time or get("window_size"):
            return failures >= threshold and (enough or get("minimum_calls") is None)
        return self.streak >= threshold
