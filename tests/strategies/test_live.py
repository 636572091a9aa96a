"""A file applied to live policies: what changes, what stays, and nothing at all when anything is wrong."""

import asyncio
import copy
import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilient import CircuitState, ConfigurationError, bulkhead, circuit_breaker, degrade, registry, retry, timeout
from resilient.bulkhead import Bulkhead
from resilient.events import ConfigurationChanged
from resilient.policy import Policy
from resilient.strategies import RecoveryStrategyConfig, configure_from, live
from resilient.timeout.smart import SmartTimeout
from resilient.wrapping import Guarded


@pytest.fixture
def file(tmp_path):
    """Write a file of strategies, and return its path."""

    def write(data):
        path = tmp_path / "strategies.json"
        path.write_text(json.dumps(data))
        return path

    return write


@pytest.fixture
def told():
    """The changes that were told of."""
    events = []
    with registry.subscribe(events.append, ConfigurationChanged):
        yield events


def failing():
    raise ConnectionError


async def afailing():
    raise ConnectionError


@pytest.mark.parametrize("face", ["sync", "async"])
def test_state_stays(file, told, face):
    """Options change on the live policies; counts and states stay."""
    strategy = RecoveryStrategyConfig(retry={"base_delay": 0}, name="payments")
    guarded = strategy(failing if face == "sync" else afailing)

    def call():
        return guarded() if face == "sync" else asyncio.run(guarded())

    with pytest.raises(ConnectionError):
        call()
    report = configure_from(
        file({
            "payments": {
                "retry": {"max_attempts": 1},
                "circuit_breaker": {"failure_threshold": 4},
                "degradation": {"degradation_threshold": 0.5, "fallback": "later"},
                "timeout": {"total": 7},
                "bulkhead": {"max_concurrent": 3},
            }
        })
    )  # fmt: skip
    degradation, retries, breaker, places, limit = guarded.policies
    assert (retries.config.max_attempts, breaker.config.failure_threshold) == (1, 4)
    assert (places.config.max_concurrent, limit.limit) == (3, 7.0)
    assert (strategy.manager.config.degradation_threshold, strategy.manager.config.recovery_threshold) == (0.5, 0.05)
    assert breaker.get_metrics().failure_count == 3
    assert call() == "later"
    assert breaker.state is CircuitState.OPEN  # the fourth failure in a row, whenever the first three were
    assert {(one.kind, one.name): dict(one.changes) for one in report.changed} == {
        ("retry", "payments"): {"max_attempts": 1},
        ("circuit_breaker", "payments"): {"failure_threshold": 4},
        ("degrade", "payments"): {"degradation_threshold": 0.5, "fallback": "later"},
        ("timeout", "payments"): {"limit": 7.0},
        ("bulkhead", "payments"): {"max_concurrent": 3},
    }
    assert (report.unmatched, report.left) == ((), ())
    assert {event.kind for event in told} == {"retry", "circuit_breaker", "degrade", "timeout", "bulkhead"}
    assert degradation.config.manager is strategy.manager


def test_only_what_the_file_says(file, told):
    """What the file leaves out stays as it is, defaults and presets are not applied, equal values change nothing."""
    retry(max_attempts=9, base_delay=0.5, name="payments")
    breaker = circuit_breaker("payments", failure_threshold=77)
    written = {"preset": "database", "retry": {"base_delay": 0.5, "max_attempts": 9}, "circuit_breaker": {}}
    report = configure_from(file({"payments": written}))
    assert report.changed == ()
    assert told == []
    assert breaker.config.failure_threshold == 77
    assert str(report) == "0 policies changed"


def test_automatic_names(file):
    """A strategy can bear the automatic name of a policy."""

    @retry
    def work():
        return 1

    report = configure_from(file({work.policies[0].name: {"retry": {"max_attempts": 6}}}))
    assert len(report.changed) == 1
    assert work.policies[0].config.max_attempts == 6


def test_filters_by_name(file):
    """Exception types written by name arrive as types."""
    policy = retry(name="payments")
    configure_from(file({"payments": {"retry": {"on": ["OSError", "pickle.PickleError"]}}}))
    assert policy.config.on[0] is OSError


def test_report(file):
    """The report is frozen, readable, and names what could not follow."""
    retry(name="payments")
    degrade(fallback=None, name="payments")
    timeout(3, name="payments")
    report = configure_from(
        file({
            "payments": {
                "retry": {"max_attempts": 5, "base_delay": 1},
                "bulkhead": {"max_concurrent": 5},
                "circuit_breaker": False,
                "timeout": {"connect": 1, "total": 5},
                "degradation": {"degradation_threshold": 0.5, "cache_ttl": 3},
            },
            "maps": {"retry": {"max_attempts": 2}},
            "my api": {},
        })
    )  # fmt: skip
    assert report.unmatched == ("maps", "my api")
    assert set(report.left) == {
        "payments.bulkhead",
        "payments.circuit_breaker",
        "payments.timeout.connect",
        "payments.degradation.degradation_threshold",
        "payments.degradation.cache_ttl",
    }
    text = str(report)
    assert text.startswith("2 policies changed\n  ")
    assert "retry 'payments': max_attempts=5, base_delay=1.0" in text
    assert "timeout 'payments': limit=5.0" in text
    assert "no live policy is named 'maps', 'my api'" in text
    assert "not for live policies: " in text
    with pytest.raises(AttributeError):
        report.changed = ()
    with pytest.raises(TypeError):
        report.changed[0].changes["max_attempts"] = 1


def test_smart_timeout_is_replaced(file):
    """A total in the file takes the place of a limit that adapts."""
    policy = timeout(SmartTimeout(2.0), name="payments")
    configure_from(file({"payments": {"timeout": {"total": 5}}}))
    assert policy.config.limit == 5.0


def test_through_the_registry(file):
    """`registry.configure_from` is the same."""
    policy = bulkhead("payments")
    report = registry.configure_from(file({"payments": {"bulkhead": {"max_concurrent": 5}}}))
    assert report.changed[0].changes == {"max_concurrent": 5}
    assert policy.config.max_concurrent == 5


# All or nothing -----------------------------------------------------------------------------------


def live_strategy():
    strategy = RecoveryStrategyConfig(name="payments")
    strategy.policies()
    return strategy, registry.snapshot(), strategy.manager.config


@pytest.mark.parametrize("broken", [{"max_attempts": 0}, {"max_attempt": 2}, {"on": "Nothing"}])
def test_an_invalid_file_changes_nothing(file, told, broken):
    """A file with any problem anywhere is refused before anything is applied."""
    strategy, before, health = live_strategy()
    with pytest.raises(ConfigurationError, match="1 problem"):
        configure_from(
            file({"payments": {"bulkhead": {"max_concurrent": 5}}, "another": {"retry": broken}}),
        )
    assert registry.snapshot() == before
    assert strategy.manager.config == health
    assert told == []


def test_what_does_not_fit_the_live_policies(file, told):
    """A file that is fine alone, but not with what is live, is refused with all problems, and changes nothing."""
    retry(max_delay=0.2, name="payments")
    circuit_breaker("payments", max_recovery_timeout=70)
    bulkhead("payments")
    before = registry.snapshot()
    written = {
        "retry": {"base_delay": 5},
        "circuit_breaker": {"recovery_timeout": 80},
        "bulkhead": {"max_concurrent": 5},
    }
    with pytest.raises(ConfigurationError) as caught:
        configure_from(file({"payments": written}))
    assert "2 problems" in str(caught.value)
    assert "payments.retry: does not fit what is live: base_delay=5.0: must not exceed max_delay=0.2" in str(
        caught.value
    )
    assert "payments.circuit_breaker: does not fit what is live: max_recovery_timeout=70.0" in str(caught.value)
    assert registry.snapshot() == before
    assert told == []


def test_problems_with_live_policies_in_a_pyproject(tmp_path):
    """In a pyproject.toml the path is that from the top, here too."""
    retry(max_delay=0.2, name="payments")
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.resilient.payments]\nretry.base_delay = 5")
    with pytest.raises(ConfigurationError, match=r"\n  tool\.resilient\.payments\.retry: does not fit what is live"):
        configure_from(path)


EVERYTHING = {
    "payments": {
        "retry": {"max_attempts": 1},
        "circuit_breaker": {"failure_threshold": 4},
        "degradation": {"degradation_threshold": 0.5, "fallback": "later"},
        "timeout": {"total": 7},
        "bulkhead": {"max_concurrent": 3},
    }
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("broken", range(5))
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failing_midway_is_undone(file, told, monkeypatch, broken, error, after):
    """When one change fails, before or after it was made, all are taken back, and nobody is told."""
    strategy, before, health = live_strategy()
    calls = []
    reconfigure = Policy.reconfigure

    def breaking(self, changes):
        calls.append(changes)
        if len(calls) == broken + 1:
            if after:
                reconfigure(self, changes)
            raise error
        reconfigure(self, changes)

    monkeypatch.setattr(Policy, "reconfigure", breaking)
    with pytest.raises(error):
        configure_from(file(EVERYTHING))
    assert registry.snapshot() == before
    assert strategy.manager.config == health
    assert told == []


def test_an_interrupt_between_two_functions_is_undone(file, told, monkeypatch):
    """Functions that already had the changed chain get the old one back."""
    strategy, before, health = live_strategy()
    functions = [strategy(lambda: 1) for _ in range(3)]
    installed = []
    install = Guarded.install

    def breaking(self, entry):
        installed.append(self)
        install(self, entry)
        if len(installed) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Guarded, "install", breaking)
    with pytest.raises(KeyboardInterrupt):
        configure_from(file(EVERYTHING))
    assert len(installed) == 2 + len(functions)
    assert (registry.snapshot(), strategy.manager.config, told) == (before, health, [])


def test_an_undo_that_fails_is_logged(file, monkeypatch, caplog):
    """When a change cannot be taken back, the others still are, and the log says so."""
    retry(max_attempts=3, name="payments")
    places, limit = bulkhead("payments"), timeout(60, name="payments")
    apply = Bulkhead.apply

    def once(self, config):
        if config.max_concurrent == 100:
            raise RuntimeError("no")
        apply(self, config)

    def refuse(self, changes):
        raise RuntimeError

    written = {"retry": {"max_attempts": 1}, "bulkhead": {"max_concurrent": 3}, "timeout": {"total": 7}}
    monkeypatch.setattr(Bulkhead, "apply", once)
    monkeypatch.setattr(type(limit), "reconfigure", refuse)
    with pytest.raises(RuntimeError):
        configure_from(file({"payments": written}))
    assert "bulkhead payments: a change could not be taken back" in caplog.text
    assert (places.config.max_concurrent, limit.limit) == (3, 60.0)
    assert registry.retries["payments"].config.max_attempts == 3


def generating():
    yield 1


@pytest.mark.parametrize(
    ("make", "written", "problem"),
    [
        (
            lambda: timeout(5, name="picky")(afailing),
            {"timeout": {"method": "cooperative"}},
            "picky.timeout.method: does not fit what is live: timeout(method='cooperative') is for sync functions",
        ),
        (
            lambda: degrade(fallback=[1], name="picky")(generating),
            {"degradation": {"fallback": 5}},
            "picky.degradation.fallback: does not fit what is live: fallback=5: a generator function needs an iterable",
        ),
    ],
)
def test_what_a_guarded_function_refuses(file, told, make, written, problem):
    """A change that a guarded function cannot have is a problem like others, before anything is changed."""
    guarded = make()
    strategy, before, health = live_strategy()
    path = file({**EVERYTHING, "picky": written})
    with pytest.raises(ConfigurationError) as caught:
        configure_from(path)
    assert str(caught.value).startswith(f"{path}: 1 problem\n  {problem}")
    assert (registry.snapshot(), strategy.manager.config, told) == (before, health, [])
    assert guarded.policies


@pytest.mark.parametrize(
    ("make", "section", "options"),
    [
        (lambda: retry(name="p", max_delay=60), "retry", {"base_delay": 20}),
        (
            lambda: circuit_breaker("p", window_size=10, failure_rate_threshold=0.5),
            "circuit_breaker",
            {"minimum_calls": 5},
        ),
        (
            lambda: circuit_breaker("p", slow_call_duration=1),
            "circuit_breaker",
            {"slow_call_rate_threshold": 0.5},
        ),
        (
            lambda: circuit_breaker("p", recovery_timeout=10, max_recovery_timeout=30),
            "circuit_breaker",
            {"max_recovery_timeout": 40},
        ),
    ],
)
def test_options_agree_with_the_live_ones(file, make, section, options):
    """What is left out is what the live policy has, not the default."""
    policy = make()
    configure_from(file({"p": {section: options}}))
    assert {key: getattr(policy.config, key) for key in options} == options
    registry._shelves = registry._empty_shelves()
    with pytest.raises(ConfigurationError, match="1 problem"):  # as a new strategy
        configure_from(file({"p": {section: options}}))


def test_the_managers_options_agree_with_its_own(file):
    """The same for the thresholds of a manager, and a cache without a policy is left."""
    strategy = RecoveryStrategyConfig(name="p", degradation={"window_size": 1000, "fallback": 1})
    strategy.policies()
    report = configure_from(file({"p": {"degradation": {"minimum_calls": 100, "fallback_ttl": 3}}}))
    assert strategy.manager.config.minimum_calls == 100
    assert report.left == ("p.degradation.fallback_ttl",)


def test_told_when_all_is_done(file):
    """Who is told of the first change finds the last one made, and is told of thresholds too, once a policy."""
    strategy, _, _ = live_strategy()
    seen = []

    def look(event):
        now = registry.bulkheads["payments"].config.max_concurrent, strategy.manager.config.degradation_threshold
        seen.append((event.kind, event.changes, now, registry.lock._is_owned()))

    with registry.subscribe(look, ConfigurationChanged):
        configure_from(file(EVERYTHING))
    assert [kind for kind, *_ in seen].count("degrade") == 1
    assert ("degrade", {"degradation_threshold": 0.5, "fallback": "later"}, (3, 0.5), False) in seen
    assert {now for _, _, now, _ in seen} == {(3, 0.5)}


def test_an_interrupt_of_who_is_told(file):
    """What a subscriber raises through comes after the changes, which stay together."""
    strategy, _, _ = live_strategy()

    def interrupt(event):
        raise KeyboardInterrupt

    with registry.subscribe(interrupt, ConfigurationChanged), pytest.raises(KeyboardInterrupt):
        configure_from(file(EVERYTHING))
    assert registry.timeouts["payments"].limit == 7.0
    assert registry.bulkheads["payments"].config.max_concurrent == 3
    assert strategy.manager.config.degradation_threshold == 0.5


def test_two_files_at_once(tmp_path):
    """Of two files that are applied at the same time one wins, as a whole."""
    strategy, _, _ = live_strategy()
    paths = []
    for value in (2, 9):
        numbers = {
            "retry": {"max_attempts": value},
            "timeout": {"total": value},
            "bulkhead": {"max_concurrent": value},
            "degradation": {"minimum_calls": value},
        }
        paths.append(tmp_path / f"{value}.json")
        paths[-1].write_text(json.dumps({"payments": numbers}))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(30):
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(configure_from, paths))
            numbers = {
                registry.retries["payments"].config.max_attempts,
                int(registry.timeouts["payments"].limit),
                registry.bulkheads["payments"].config.max_concurrent,
                strategy.manager.config.minimum_calls,
            }
            assert len(numbers) == 1
    finally:
        sys.setswitchinterval(interval)


def test_the_report_can_be_pickled(file):
    """A report can be sent to another process, and copied."""
    retry(name="payments")
    report = configure_from(file({"payments": {"retry": {"max_attempts": 5}}}))
    assert pickle.loads(pickle.dumps(report)) == copy.deepcopy(report) == report  # noqa: S301 - our own


def test_the_names_are_public():
    """What the report is made of can be imported."""
    from resilient import strategies

    assert strategies.Report is live.Report
    assert strategies.Change is live.Change
    assert all(hasattr(strategies, name) for name in strategies.__all__)
