"""The strategy as an object: defaults, presets, merging, copies, and all problems at once."""

import copy
import dataclasses
import pickle
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import CircuitOpenError, ConfigurationError, RetryBudget, registry
from resilient.bulkhead import BulkheadConfig
from resilient.circuit_breaker import CircuitBreakerConfig
from resilient.degradation.config import DegradationConfig
from resilient.retry import RetryConfig
from resilient.strategies import (
    BulkheadSettings,
    CircuitBreakerSettings,
    DegradationSettings,
    RecoveryStrategyConfig,
    RetrySettings,
    TimeoutSettings,
)
from resilient.strategies.options import names
from resilient.strategies.validation import SECTIONS
from resilient.timeout import TimeoutConfig
from resilient.timeout.smart import SmartTimeout

KINDS = ["degrade", "retry", "circuit_breaker", "bulkhead", "timeout"]


def pick(settings, options):
    return tuple(getattr(settings, name) for name in options.split())


RETRY = "max_attempts base_delay max_delay multiplier jitter"
BREAKER = "failure_threshold recovery_timeout half_open_calls"
HEALTH = "auto_degradation_enabled degradation_threshold recovery_threshold monitoring_interval"
LIMITS = "connect read write total"


@pytest.mark.parametrize(
    ("make", "changed"),
    [
        (RecoveryStrategyConfig, {}),
        (
            RecoveryStrategyConfig.for_database,
            {"retry": (2, 0.05, 5.0, 1.5, False), "circuit_breaker": (3, 30.0, 5)},
        ),
        (
            RecoveryStrategyConfig.for_external_api,
            {"retry": (3, 0.2, 30.0, 2.5, True), "timeout": (3.0, 10.0, 10.0, 15.0)},
        ),
        (
            RecoveryStrategyConfig.for_cache,
            {"retry": (1, 0.01, 0.1, 1.0, False), "degradation": (True, 0.05, 0.02, 10.0)},
        ),
    ],
    ids=["default", "database", "external_api", "cache"],
)
def test_numbers(make, changed):
    """Defaults and presets have the specification's numbers, and nothing is wrong with them."""
    made = make()
    numbers = {
        "retry": (3, 0.1, 10.0, 2.0, True),
        "circuit_breaker": (5, 60.0, 10),
        "degradation": (True, 0.1, 0.05, 30.0),
        "timeout": (5.0, 30.0, 30.0, 60.0),
        "bulkhead": (100, 30.0),
        **changed,
    }
    assert pick(made.retry, RETRY) == numbers["retry"]
    assert pick(made.circuit_breaker, BREAKER) == numbers["circuit_breaker"]
    assert pick(made.degradation, HEALTH) == numbers["degradation"]
    assert pick(made.timeout, LIMITS) == numbers["timeout"]
    assert pick(made.bulkhead, "max_concurrent max_wait") == numbers["bulkhead"]
    assert made.validate() == []
    assert made.name is None
    assert [one.severity for one in made.pipeline().check()] == ["info"]


def test_presets_with_a_name():
    """A preset takes a name."""
    assert RecoveryStrategyConfig.for_database("orders").name == "orders"
    assert RecoveryStrategyConfig.for_external_api(name="maps").name == "maps"
    assert RecoveryStrategyConfig.for_cache(name="sessions").name == "sessions"


@pytest.mark.parametrize(
    ("settings", "own", "different"),
    [
        (RetrySettings, RetryConfig, {"max_delay": 10.0, "give_up_on": CircuitOpenError}),
        (CircuitBreakerSettings, CircuitBreakerConfig, {}),
        (BulkheadSettings, BulkheadConfig, {}),
        (DegradationSettings, DegradationConfig, {}),
    ],
)
def test_options_are_the_rooms(settings, own, different):
    """Settings have every option of the room, with its defaults where the specification has no other."""
    room, made = own(), settings()
    assert set(room.names()) <= set(names(made))
    assert {
        name: getattr(made, name) for name in room.names() if getattr(made, name) != getattr(room, name)
    } == different


def test_a_dict_is_merged_over_the_defaults():
    """A dict changes what it names, and leaves the rest at its defaults."""
    made = RecoveryStrategyConfig(retry={"max_attempts": 7}, bulkhead={})
    assert made.retry == RetrySettings(max_attempts=7)
    assert made.bulkhead == BulkheadSettings()
    assert made.retry.max_delay == 10.0


@pytest.mark.parametrize("off", [None, False])
def test_a_pattern_that_is_off(off):
    """None and False switch a pattern off; the others stay."""
    made = RecoveryStrategyConfig(bulkhead=off, degradation=off)
    assert made.bulkhead is None
    assert made.validate() == []
    assert [one.kind for one in made.policies()] == ["retry", "circuit_breaker", "timeout"]


def test_everything_off():
    """A strategy without any pattern is a problem, as there is nothing to decorate with."""
    made = RecoveryStrategyConfig(None, None, None, None, None)
    assert len(made.validate()) == 1
    assert "all patterns are switched off" in made.validate()[0]
    with pytest.raises(ConfigurationError, match="all patterns are switched off"):
        made(print)


def test_rooms_own_configurations():
    """The configurations of the rooms, and of a manager, are taken over option by option."""
    budget = RetryBudget(0.2)
    made = RecoveryStrategyConfig(
        retry=RetryConfig(max_attempts=9, budget=budget),
        circuit_breaker=CircuitBreakerConfig(failure_threshold=8),
        degradation=DegradationConfig(degradation_threshold=0.4),
        timeout=TimeoutConfig(3, "cooperative"),
        bulkhead=BulkheadConfig(max_concurrent=2, max_queue=1),
    )
    assert made.validate() == []
    assert pick(made.retry, "max_attempts max_delay give_up_on") == (9, 30.0, ())
    assert made.retry.budget is budget
    assert made.circuit_breaker == CircuitBreakerSettings(failure_threshold=8)
    assert made.degradation == DegradationSettings(degradation_threshold=0.4)
    assert made.timeout == TimeoutSettings(total=3.0, method="cooperative")
    assert made.bulkhead == BulkheadSettings(max_concurrent=2, max_queue=1)


def test_frozen():
    """Neither strategies nor their sections can be changed."""
    made = RecoveryStrategyConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.retry.max_attempts = 1


def test_equality_copies_and_pickling():
    """Equal strategies are equal, also after copying and pickling."""
    made = RecoveryStrategyConfig.for_database("orders")
    assert made == RecoveryStrategyConfig.for_database("orders") != RecoveryStrategyConfig.for_database()
    assert copy.deepcopy(made) == made
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301 - our own
    assert RecoveryStrategyConfig(retry={"max_attempt": 1}) != RecoveryStrategyConfig()
    assert "max_attempts=2" in repr(made)
    assert "unknown" not in repr(made)
    assert dataclasses.replace(made, name="other") == RecoveryStrategyConfig.for_database("other")


def test_replace():
    """A dict is merged over the section as it is, settings replace it, None switches it off; the original stays."""
    made = RecoveryStrategyConfig.for_database("orders")
    changed = made.replace(retry={"max_attempts": 5}, circuit_breaker=CircuitBreakerSettings(), bulkhead=None, name="b")
    assert pick(changed.retry, RETRY) == (5, 0.05, 5.0, 1.5, False)
    assert changed.circuit_breaker == CircuitBreakerSettings()
    assert (changed.bulkhead, changed.name, changed.timeout) == (None, "b", made.timeout)
    assert made == RecoveryStrategyConfig.for_database("orders")
    assert changed.replace(name=None).name is None
    assert changed.replace(bulkhead={"max_concurrent": 3}).bulkhead == BulkheadSettings(max_concurrent=3)


def test_replace_keeps_and_drops_unknown_keys():
    """Keys that mean nothing stay a problem until their section is replaced as a whole."""
    made = RecoveryStrategyConfig(retry={"max_attempt": 1}, bulkhead={"size": 1})
    assert len(made.replace(name="x", retry={"max_attempts": 2}).validate()) == 2
    assert [one.split(":")[0] for one in made.replace(retry=RetrySettings()).validate()] == ["bulkhead.size"]
    assert made.replace(retry=None, bulkhead=BulkheadSettings()).validate() == []


def test_with_fallback():
    """A fallback is the short way to one section's option."""
    made = RecoveryStrategyConfig.for_cache().with_fallback([])
    assert made == RecoveryStrategyConfig.for_cache().replace(degradation={"fallback": []})
    assert made.policies()[0].config.fallback == []


# Problems -----------------------------------------------------------------------------------------


def test_all_problems_at_once():
    """Every problem of every section is there, with path, value, and what is right."""
    made = RecoveryStrategyConfig(
        retry={"max_attempts": 0, "base_delay": 20, "jitter": "fulll", "on": "NoSuchError", "tries": 3},
        circuit_breaker={
            "failure_threshold": 0,
            "window_size": 10,
            "window_duration": 5,
            "max_recovery_timeout": 3,
            "slow_call_rate_threshold": 0.5,
        },
        degradation={"degradation_threshold": 0.05, "cache_size": 5, "fallback_ttl": -1, "fallback_limit": 0},
        timeout={"connect": 70, "read": "5s", "method": "magic"},
        bulkhead={"max_concurrent": 0, "max_wait": -1},
        name=" ",
    )
    found = made.validate()
    expected = [
        "name=' ': must not be empty",
        "retry.tries: unknown key; allowed: max_attempts, on,",
        "retry.on='NoSuchError': must name exception types",
        "retry.max_attempts=0: must be a whole number of at least 1",
        "retry.jitter='fulll': must be True",
        "retry.base_delay=20.0: must not exceed max_delay=10.0",
        "circuit_breaker.failure_threshold=0: must be a whole number of at least 1",
        "circuit_breaker.window_size=10: and window_duration=5.0 exclude each other",
        "circuit_breaker.slow_call_rate_threshold=0.5: needs slow_call_duration=",
        "circuit_breaker.max_recovery_timeout=3.0: must not be less than recovery_timeout=60.0",
        "degradation.fallback_ttl=-1: must be seconds, 0 or more",
        "degradation.fallback_limit=0: must be a whole number of at least 1",
        "degradation.degradation_threshold=0.05: does not fit recovery_threshold=0.05 (default), which must be less",
        "degradation.cache_size=5: needs cache_ttl=",
        "timeout.read='5s': must be seconds",
        "timeout.method='magic': must be one of thread, signal, cooperative",
        "timeout.connect=70.0: must not exceed total=60.0",
        "bulkhead.max_concurrent=0: must be a whole number of at least 1",
        "bulkhead.max_wait=-1: must be seconds, 0 or more",
    ]
    assert len(found) == len(expected), found
    for start in expected:
        assert any(one.startswith(start) for one in found), (start, found)


def test_an_invalid_strategy_can_be_looked_at():
    """Bad values stay as they were given until somebody asks what is wrong."""
    made = RecoveryStrategyConfig(
        retry=RetrySettings(max_attempts=0), timeout={"total": "soon"}, degradation={"degradation_threshold": 7}
    )
    assert (made.retry.max_attempts, made.timeout.total, made.degradation.degradation_threshold) == (0, "soon", 7)


def test_decorating_with_an_invalid_strategy():
    """Decorating raises one error with all problems, and registers nothing."""
    made = RecoveryStrategyConfig(retry={"max_attempts": 0, "tries": 1}, bulkhead={"max_concurrent": 0}, name="pay")
    with pytest.raises(ConfigurationError) as caught:
        made(print)
    assert str(caught.value).startswith("the strategy 'pay' cannot work: 3 problems\n")
    assert all(one in str(caught.value) for one in made.validate())
    assert all(not shelf for shelf in registry.snapshot().values())
    with pytest.raises(ConfigurationError, match=r"the strategy cannot work: 1 problem\n"):
        RecoveryStrategyConfig(bulkhead={"max_concurrent": 0}).policies()


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", [3, "yes", True, [1], print])
def test_what_is_no_section(section, value):
    """Something that is neither settings nor a dict is a problem of that section."""
    (found,) = RecoveryStrategyConfig(**{section: value}).validate()
    assert found.startswith(f"{section}={value!r}: must be a {SECTIONS[section].__name__}, a dict of options, or None")


def test_settings_of_another_section():
    """Settings in the wrong place are a problem, not a crash."""
    (found,) = RecoveryStrategyConfig(retry=BulkheadSettings()).validate()
    assert found.startswith("retry=")
    assert "must be a RetrySettings" in found


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value", [10**5000, Unspeakable(), "x" * 1000, [["deep"] * 50] * 50], ids=["digits", "mute", "text", "lists"]
)
def test_values_are_shown_shortened(value):
    """A value that is long, or cannot be shown, makes a short message all the same."""
    for section, option in [("retry", "max_attempts"), ("timeout", "connect"), ("circuit_breaker", "ignore")]:
        found = RecoveryStrategyConfig(**{section: {option: value}}).validate()
        assert len(found) == 1
        assert found[0].startswith(f"{section}.{option}=")
        assert len(found[0]) < 450


def test_unknown_keys_hide_their_values():
    """The value of a key that means nothing is not shown: it may be a secret in the wrong place."""
    (found,) = RecoveryStrategyConfig(retry={"password": "hunter2"}).validate()
    assert found.startswith("retry.password: unknown key; allowed: ")
    assert "hunter2" not in found


def test_unknown_keys_that_are_no_strings():
    """Any key can be complained about."""
    found = RecoveryStrategyConfig(retry={3: 1, None: 2, 10**5000: 3}).validate()
    assert [one.partition(":")[0] for one in found] == ["retry.3", "retry.None", 'retry."<int>"']


@pytest.mark.parametrize(
    ("section", "options", "problem"),
    [
        ("circuit_breaker", {"minimum_calls": 5}, "needs a window"),
        ("circuit_breaker", {"minimum_calls": 5, "window_size": 3}, "must not exceed the window of 3"),
        ("circuit_breaker", {"minimum_calls": 5, "window_size": 30}, None),
        ("circuit_breaker", {"minimum_calls": 5, "slow_call_duration": 1}, None),
        ("circuit_breaker", {"minimum_calls": 5, "failure_rate_threshold": 0.5}, None),
        ("circuit_breaker", {"slow_call_rate_threshold": 0.5, "slow_call_duration": 1}, None),
        ("circuit_breaker", {"max_recovery_timeout": 61}, None),
        ("retry", {"max_delay": 0.05}, "must not exceed max_delay=0.05"),
        ("retry", {"max_delay": 100, "base_delay": 50}, None),
        ("retry", {"max_delay": "x", "base_delay": 50}, "must be seconds"),
        ("degradation", {"recovery_threshold": 0.1}, "must be less than degradation_threshold=0.1"),
        ("degradation", {"recovery_threshold": 0.8, "degradation_threshold": 0.9}, None),
        ("degradation", {"minimum_calls": 60}, "must be at least minimum_calls=60"),
        ("degradation", {"minimum_calls": 60, "window_size": 60}, None),
        ("degradation", {"fallback_ttl": 3}, "needs cache_ttl="),
        ("degradation", {"fallback_ttl": 3, "cache_ttl": 3, "cache_size": 3}, None),
        ("timeout", {"total": 0}, "greater than 0"),
        ("timeout", {"write": 61}, "must not exceed total=60.0"),
        ("timeout", {"write": 61, "total": None}, "must be seconds"),
        ("timeout", {"connect": None, "read": None, "write": None}, None),
        ("bulkhead", {"max_wait": None, "max_queue": 0}, None),
        ("bulkhead", {"circuit_breaker": "missing"}, "no circuit_breaker is named 'missing'"),
    ],
)
def test_options_that_have_to_agree(section, options, problem):
    """Options are judged alone first, then together: one problem each, and none that follows from another."""
    found = RecoveryStrategyConfig(**{section: options}).validate()
    assert len(found) == (problem is not None), found
    assert problem is None or problem in found[0]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"total": 2}, (2, 2, 2, 2)),
        ({"total": 15}, (5.0, 15, 15, 15)),
        ({"total": timedelta(seconds=3)}, (3, 3, 3, timedelta(seconds=3))),
        ({"total": 2, "connect": None}, (None, 2, 2, 2)),
        ({"total": 2, "connect": 1}, (1, 2, 2, 2)),
        ({"connect": 1}, (1, 30.0, 30.0, 60.0)),
    ],
)
def test_limits_left_out_stay_within_the_total(given, kept):
    """A short total shortens the client's limits that nobody has given, as a dict and as settings."""
    for made in (RecoveryStrategyConfig(timeout=given), RecoveryStrategyConfig(timeout=TimeoutSettings(**given))):
        assert pick(made.timeout, LIMITS) == kept
        assert made.validate() == []
    assert RecoveryStrategyConfig.for_external_api().replace(timeout={"total": 8}).timeout.read == 8


def test_smart_timeout_as_total():
    """A total that adapts is nothing the client's limits could exceed."""
    smart = SmartTimeout(2.0)
    made = RecoveryStrategyConfig(timeout={"total": smart, "connect": 50})
    assert made.validate() == []
    assert made.policies()[-1].config.limit is smart


# Exceptions by name -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (OSError, OSError),
        ((OSError, ValueError), (OSError, ValueError)),
        ("ConnectionError", ConnectionError),
        ("CircuitOpenError", CircuitOpenError),
        ("resilient.errors.CircuitOpenError", CircuitOpenError),
        ("pickle.PickleError", pickle.PickleError),
        (["OSError", "pickle.PickleError"], (OSError, pickle.PickleError)),
        (("OSError", ValueError), (OSError, ValueError)),
        ([OSError], (OSError,)),
    ],
)
def test_exceptions_by_name(written, meant):
    """Exception types are given themselves or by name; a list is as good as a tuple."""
    made = RecoveryStrategyConfig(
        retry={"on": written, "give_up_on": written},
        circuit_breaker={"expected_exception": written, "ignore": written},
        degradation={"on": written},
    )
    assert made.validate() == []
    degradation, retry, breaker, *_ = made.policies()
    assert degradation.config.on == retry.config.on == retry.config.give_up_on == meant
    assert breaker.config.expected_exception == breaker.config.ignore == meant
    assert made.retry.on == (tuple(written) if isinstance(written, list) else written)


def test_a_predicate_as_filter():
    """In code, a predicate will do."""

    def temporary(error):
        return isinstance(error, OSError)

    made = RecoveryStrategyConfig(retry={"on": temporary})
    assert made.validate() == []
    assert made.policies()[1].config.on is temporary


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("Missing", "'Missing' is not an exception type"),
        ("print", "'print' is not an exception type"),
        ("int", "'int' is not an exception type"),
        ("", "'' is not an exception type"),
        ("not a name", "'not a name' is not an exception type"),
        ("os.getcwd", "'os.getcwd' is not an exception type"),
        ("no_such_module.Error", "'no_such_module.Error' cannot be imported (No module named 'no_such_module')"),
        ("pickle.Missing", "'pickle.Missing' cannot be imported"),
        (["OSError", "Missing"], "'Missing' is not an exception type"),
        ([], "an empty tuple matches nothing"),
        ([3], "3 is not an exception type"),
        (3, "must be an exception type"),
        (None, "must be an exception type"),
    ],
)
def test_names_that_lead_nowhere(written, problem):
    """A name that is no exception type is a problem that says so."""
    (found,) = RecoveryStrategyConfig(retry={"on": written}).validate()
    shown = tuple(written) if isinstance(written, list) else written
    assert found.startswith(f"retry.on={shown!r}: ")
    assert problem in found


def test_a_module_that_breaks_when_imported(tmp_path, monkeypatch):
    """An exception in a module of that name is a problem like any other."""
    (tmp_path / "broken_for_names.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = RecoveryStrategyConfig(retry={"on": "broken_for_names.Error"}).validate()
    assert "importing 'broken_for_names.Error' ends with ZeroDivisionError" in found


# Any value ----------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.integers(),
    st.floats(),
    st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0, 1.5, 20.0, 90.0, "full", "linear", "signal", "OSError", "Nothing", ""]),
    st.text(max_size=5),
    st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=3)),
    st.sampled_from([OSError, (OSError,), (), [], {}, print, object()]),
)
OPTIONS = {section: st.sampled_from(names(kind)) for section, kind in SECTIONS.items()}
TABLES = {
    section: st.dictionaries(options, SCALARS, max_size=5) | st.dictionaries(options | st.text(max_size=3), SCALARS)
    for section, options in OPTIONS.items()
}


@given(st.fixed_dictionaries({}, optional={section: st.none() | SCALARS | table for section, table in TABLES.items()}))
def test_valid_means_that_decorating_works(sections):
    """validate() never raises, whatever it is given, and finds nothing exactly where decorating works."""
    made = RecoveryStrategyConfig(**sections)
    found = made.validate()
    assert all(isinstance(one, str) and one for one in found)
    if found:
        with pytest.raises(ConfigurationError) as caught:
            made(lambda: None)
        assert all(one in str(caught.value) for one in found)
    else:
        used = {one.kind for one in made(lambda: None).policies}
        assert used <= set(KINDS)
        assert used


def test_limits_left_out_follow_the_total():
    """They are found out when they are read, so the way to a total leaves no trace."""
    made = RecoveryStrategyConfig(timeout={"total": 2}).replace(timeout={"total": 60})
    assert (made.timeout.connect, made.timeout.read, made.timeout.write) == (5, 30, 30)
    assert made == RecoveryStrategyConfig()
    assert dataclasses.replace(TimeoutSettings(total=2), total=60) == TimeoutSettings()
    assert copy.deepcopy(TimeoutSettings(total=2)).merged({"total": 60}).read == 30
    assert pickle.loads(pickle.dumps(TimeoutSettings(total=2))).merged({"total": 60}).read == 30  # noqa: S301 - our own


@pytest.mark.parametrize("limit", [5, 5.0, 3])
def test_limits_that_were_given_do_not(limit):
    """One that was given is a problem above the total, also where it equals the default."""
    (found,) = RecoveryStrategyConfig(timeout={"connect": limit, "total": 2}).validate()
    assert found.startswith(f"timeout.connect={float(limit)}: must not exceed total=2.0")


def test_lists_of_errors_become_tuples():
    """A list could be changed later, and settings could not be hashed."""
    errors = [ValueError]
    made = RecoveryStrategyConfig(retry={"on": errors})
    errors.append(KeyError)
    assert made.retry.on == (ValueError,)
    assert hash(made) == hash(RecoveryStrategyConfig(retry={"on": (ValueError,)}))


@pytest.mark.parametrize("where", ["name", "total"])
def test_a_value_that_cannot_be_shown(where):
    """A repr that fails makes problems no worse."""

    class Strange:
        def __repr__(self):
            raise RuntimeError

    made = (
        RecoveryStrategyConfig(name=Strange())
        if where == "name"
        else RecoveryStrategyConfig(timeout={"total": Strange()})
    )
    assert len(made.validate()) == 1
