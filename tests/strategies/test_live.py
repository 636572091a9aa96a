"""A file applied to live policies: what changes, what stays, and nothing at all when anything is wrong."""

import asyncio
import json

import pytest

from resilient import CircuitState, ConfigurationError, bulkhead, circuit_breaker, degrade, registry, retry, timeout
from resilient.degradation import DegradationManager
from resilient.events import ConfigurationChanged
from resilient.strategies import RecoveryStrategyConfig, configure_from, live
from resilient.timeout.smart import SmartTimeout


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


@pytest.mark.parametrize("broken", range(6))
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failing_midway_is_undone(file, monkeypatch, broken, error):
    """When one change fails, whichever, those already made are taken back, and the error arrives."""
    strategy, before, health = live_strategy()
    calls = []

    def breaking(apply):
        def step(*args, **changes):
            calls.append(changes)
            if len(calls) == broken + 1:
                raise error
            return apply(*args, **changes)

        return step

    monkeypatch.setattr(registry, "configure", breaking(registry.configure))
    monkeypatch.setattr(DegradationManager, "configure", breaking(DegradationManager.configure))
    with pytest.raises(error):
        configure_from(file(EVERYTHING))
    assert len(calls) == 2 * broken + 1
    assert registry.snapshot() == before
    assert strategy.manager.config == health


def test_an_undo_that_fails_is_logged(file, monkeypatch, caplog):
    """When a change cannot be taken back, the others still are, and the log says so."""
    retry(max_attempts=3, name="payments")
    places, limit = bulkhead("payments"), timeout(60, name="payments")
    configure = registry.configure

    def break_timeout_and_undo(kind, name, **changes):
        if kind == "timeout" or changes.get("max_concurrent") == 100:
            raise RuntimeError("no")
        configure(kind, name, **changes)

    written = {"retry": {"max_attempts": 1}, "bulkhead": {"max_concurrent": 3}, "timeout": {"total": 7}}
    monkeypatch.setattr(registry, "configure", break_timeout_and_undo)
    with pytest.raises(RuntimeError):
        configure_from(file({"payments": written}))
    assert "bulkhead payments: a change could not be taken back" in caplog.text
    assert (places.config.max_concurrent, limit.limit) == (3, 60.0)
    assert registry.retries["payments"].config.max_attempts == 3


def test_the_names_are_public():
    """What the report is made of can be imported."""
    from resilient import strategies

    assert strategies.Report is live.Report
    assert strategies.Change is live.Change
    assert all(hasattr(strategies, name) for name in strategies.__all__)
