"""What a scenario is made of is checked when it is made: each error names the parameter, its value, and a remedy."""

import dataclasses
from datetime import timedelta

import pytest

from resilient import ConfigurationError, circuit_breaker
from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    ExpectedRecoveryBehavior,
    FaultProxy,
    InjectionTiming,
    Probe,
    RecoveryMode,
    RecoveryTestScenario,
    SuccessCriteria,
    faults,
)
from resilient.testing.recovery.configs import HOOKS, IN_PROCESS, NETWORK
from resilient.testing.recovery.sources import source_of

Kind = ErrorInjectionType
PATH = "json:dumps"


def config(**options):
    """An injection that is fine but for the options."""
    return ErrorInjectionConfig(**{"injection_type": Kind.NETWORK_FAILURE, "target": PATH, **options})


def scenario(**options):
    """A scenario that is fine but for the options."""
    fine = {"id": "x", "name": "x", "description": "", "workload": lambda: None, "error_injection": config()}
    return RecoveryTestScenario(**{**fine, "expected_recovery": ExpectedRecoveryBehavior(), **options})


def proxy():
    """A proxy that need not run."""
    return FaultProxy("127.0.0.1", 1, seed=1)


async def acoroutine(*args):
    """An async function."""


WRONG_CONFIGS = [
    ({"injection_type": "network_failure"}, "injection_type='network_failure': must be an ErrorInjectionType"),
    ({"injection_type": None}, "injection_type=None: must be"),
    ({"target": None}, "target=None: must be"),
    ({"target": 5}, "target=5: must be"),
    ({"target": " "}, "target=' ': must be"),
    ({"target": lambda: None}, "target='<lambda>': is a local function"),
    ({"injection_timing": 3}, "injection_timing=3: must be an InjectionTiming"),
    ({"error_rate": 1.5}, "error_rate=1.5: must be a fraction"),
    ({"error_rate": -0.1}, "error_rate=-0.1: must be a fraction"),
    ({"error_rate": None}, "error_rate=None: must be a fraction"),
    ({"error_rate": True}, "error_rate=True: must be a fraction"),
    ({"error_rate": float("nan")}, "error_rate=nan: must be a fraction"),
    ({"during": 5}, r"during=5: must be a pair"),
    ({"during": (1, 2, 3)}, r"during=\(1, 2, 3\): must be a pair"),
    ({"during": (2, 1)}, r"during=\(2, 1\): must end after"),
    ({"during": (-1, 1)}, "during=-1: must be seconds"),
    ({"during": ("a", "b")}, "during='a': must be seconds"),
    ({"max_count": 0}, "max_count=0: must be a whole number"),
    ({"max_count": 1.5}, "max_count=1.5: must be a whole number"),
    ({"max_count": True}, "max_count=True: must be a whole number"),
    ({"parameters": [1]}, "parameters='list': must be a mapping"),
    ({"parameters": {"kind": "nonsense"}}, "kind='nonsense': must be one of"),
    ({"parameters": {"unknown": 1}}, "parameters of network_failure: unknown key unknown; allowed: kind, pat"),
    ({"parameters": {1: 1}}, "parameters of network_failure: unknown key 1; allowed: kind, pat"),
    ({"injection_type": Kind.LATENCY}, "parameters of latency: needs seconds"),
    ({"injection_type": Kind.LATENCY, "parameters": {"seconds": "x"}}, "seconds='x': must be seconds"),
    ({"injection_type": Kind.CUSTOM}, "parameters of custom: needs "),
    ({"injection_type": faults.Latency(1), "parameters": {"seconds": 1}}, "parameters=.*has its parameters already"),
    ({"seed": 1.5}, "seed=1.5: must be a whole number or a text"),
    ({"seed": True}, "seed=True: must be"),
    ({"seed": []}, r"seed=\[\]: must be"),
]

WRONG_HOOKS = [
    ({"parameters": {"end": int}}, "parameters='end': needs `begin`"),
    ({"parameters": {"begin": 1}}, "parameters='begin': must be two callables"),
    ({"parameters": {"begin": int, "middle": int}}, "parameters='middle': must be two callables"),
    ({"parameters": {"begin": acoroutine}}, "parameters='begin': must be a sync function"),
    ({"parameters": {"begin": int, "end": acoroutine}}, "parameters='end': must be a sync function"),
    ({"error_rate": 0.5}, "error_rate=0.5: .*cannot have a rate"),
    ({"max_count": 3}, "max_count=3: .*use `during`"),
    ({"injection_timing": InjectionTiming.when(bool)}, "injection_timing=.*use InjectionTiming.delayed"),
]

WRONG_NETWORKS = [
    ({"injection_type": Kind.DATABASE_TIMEOUT}, "injection_type=.*NETWORK_FAILURE or LATENCY"),
    ({"parameters": {"kind": "dns"}}, "kind='dns': must be one of"),
    ({"parameters": {"kind": "refused", "latency": 1}}, "kind='refused': concerns all connections"),
    ({"parameters": {"kind": "blackhole"}, "error_rate": 0.5}, "kind='blackhole': concerns all connections"),
    ({"parameters": {"latency": "x"}}, "latency='x': must be seconds"),
    ({"parameters": {"kind": "reset", "limit_data": 5}}, "limit_data=5: goes not with reset_after=0"),
    ({"parameters": {"patience": 1}}, "parameters='patience': must be kind, or among"),
    ({"parameters": {"direction": "sideways", "latency": 1}}, "direction='sideways': must be one of"),
    ({"injection_type": Kind.LATENCY}, "parameters=.*needs `latency`"),
    ({"injection_type": Kind.LATENCY, "parameters": {"kind": "reset"}}, "parameters=.*needs `latency`"),
    ({"max_count": 3}, "max_count=3: .*use `during`"),
    ({"injection_timing": InjectionTiming.when(bool)}, "injection_timing=.*use InjectionTiming.delayed"),
]

WRONG_SCENARIOS = [
    ({"id": ""}, "id='': must be a text"),
    ({"id": 3}, "id=3: must be a text"),
    ({"name": " "}, "name=' ': must be a text"),
    ({"description": None}, "description=None: must be a text"),
    ({"workload": 5}, "workload=5: must be a function"),
    ({"workload": lambda x: x}, "workload='<lambda>': must be callable with no arguments"),
    ({"error_injection": None}, "error_injection=None: must be"),
    ({"error_injection": []}, r"error_injection=\[\]: must be"),
    ({"error_injection": "json:dumps"}, "error_injection='json:dumps': must be"),
    ({"error_injection": [config(), 3]}, "error_injection=.*must be"),
    ({"expected_recovery": RecoveryMode.MANUAL}, "expected_recovery=.*must be ExpectedRecoveryBehavior"),
    ({"timeout": 0}, "timeout=0: must be seconds, greater than 0"),
    ({"timeout": None}, "timeout=None: must be seconds"),
    ({"timeout": float("inf")}, "timeout=inf: must be seconds"),
    ({"baseline": 0}, "baseline=0: must be seconds, greater than 0"),
    ({"fault": -1}, "fault=-1: must be seconds"),
    ({"fault": 2, "error_injection": config(during=(5, 15))}, r"during=\(5.0, 15.0\): begins when the fault phase"),
    ({"observe": "x"}, "observe='x': must be seconds"),
    ({"checker": 3}, "checker=3: must be a function"),
    ({"checker": acoroutine}, "checker: must not be async"),
    ({"checker": lambda: True}, "checker='<lambda>': must be callable with the history"),
    ({"load": 0}, "load=0: must be calls per second"),
    ({"load": -1}, "load=-1: must be"),
    ({"load": "fast"}, "load='fast': must be"),
    ({"concurrency": 0}, "concurrency=0: must be a whole number"),
    ({"concurrency": 1.5}, "concurrency=1.5: must be a whole number"),
    ({"steady_probes": 0}, "steady_probes=0: must be a whole number"),
    ({"recover": 3}, "recover=3: must be a function"),
    ({"recover": lambda x: x}, "recover='<lambda>': must be callable with no arguments"),
    ({"expected_recovery": ExpectedRecoveryBehavior(RecoveryMode.MANUAL)}, "recover=None: RecoveryMode.MANUAL needs"),
    ({"expected_recovery": ExpectedRecoveryBehavior(RecoveryMode.HYBRID)}, "recover=None: RecoveryMode.HYBRID needs"),
    (
        {"expected_recovery": ExpectedRecoveryBehavior(success_criteria=SuccessCriteria(None, None, True))},
        "checker=None: data_consistency_required needs",
    ),
    ({"probes": 3}, "probes=3: must be a tuple"),
    ({"probes": (3,)}, "probes=3: must be Probe"),
    ({"virtual_time": "yes"}, "virtual_time='yes': must be True, False or None"),
    ({"virtual_time": 1}, "virtual_time=1: must be True, False or None"),
    ({"weight": -1}, "weight=-1: must be"),
    ({"weight": None}, "weight=None: must be"),
]

WRONG_EXPECTATIONS = [
    (ExpectedRecoveryBehavior, {"recovery_mode": "manual"}, "recovery_mode='manual': must be a RecoveryMode"),
    (ExpectedRecoveryBehavior, {"max_recovery_time": -1}, "max_recovery_time=-1: must be seconds"),
    (ExpectedRecoveryBehavior, {"max_recovery_time": None}, "max_recovery_time=None: must be seconds"),
    (ExpectedRecoveryBehavior, {"success_criteria": 0.9}, "success_criteria=0.9: must be SuccessCriteria"),
    (SuccessCriteria, {"success_rate_threshold": 99}, "success_rate_threshold=99: must be a fraction"),
    (SuccessCriteria, {"response_time_threshold": "x"}, "response_time_threshold='x': must be seconds"),
    (SuccessCriteria, {"data_consistency_required": 1}, "data_consistency_required=1: must be True or False"),
    (SuccessCriteria, {"tolerance": 2}, "tolerance=2: must be a fraction"),
    (SuccessCriteria, {"tolerance": None}, "tolerance=None: must be a fraction"),
    (SuccessCriteria, {"baseline_threshold": None}, "baseline_threshold=None: must be a fraction"),
    (Probe, {"name": "", "required": "x", "judge": bool}, "name='': must be a text"),
    (Probe, {"name": "x", "required": None, "judge": bool}, "required=None: must be a text"),
    (Probe, {"name": "x", "required": "x", "judge": 3}, "judge=3: must be a function"),
    (Probe, {"name": "x", "required": "x", "judge": bool, "weight": -1}, "weight=-1: must be"),
]

both = (ConfigurationError, TypeError)


@pytest.mark.parametrize(("options", "text"), WRONG_CONFIGS)
def test_wrong_injection(options, text):
    """What cannot be injected in process is refused when it is configured."""
    with pytest.raises(both, match=text):
        config(**options)


@pytest.mark.parametrize(("options", "text"), WRONG_HOOKS)
def test_wrong_hooks(options, text):
    """What functions that begin and end cannot do is refused, as it would silently not happen."""
    with pytest.raises(both, match=text):
        config(**{"injection_type": Kind.CUSTOM, "target": None, "parameters": {"begin": int}, **options})


@pytest.mark.parametrize(("options", "text"), WRONG_NETWORKS)
def test_wrong_network(options, text):
    """What a proxy cannot do is refused, its own parameters too."""
    with pytest.raises(both, match=text):
        config(**{"target": proxy(), **options})


@pytest.mark.parametrize(("options", "text"), WRONG_SCENARIOS)
def test_wrong_scenario(options, text):
    """What cannot be run is refused when the scenario is made."""
    with pytest.raises(both, match=text):
        scenario(**options)


@pytest.mark.parametrize(("kind", "options", "text"), WRONG_EXPECTATIONS)
def test_wrong_expectation(kind, options, text):
    """What cannot be expected is refused."""
    with pytest.raises(both, match=text):
        kind(**options)


def test_network_in_virtual_time_is_refused():
    """Real sockets know no virtual time, so both together are refused; left open, it is real time."""
    with pytest.raises(ConfigurationError, match="virtual_time=True: a FaultProxy has real sockets"):
        scenario(error_injection=config(target=proxy()), virtual_time=True)
    assert scenario(error_injection=config(target=proxy()), virtual_time=None).virtual_time is None


def test_timedeltas_are_seconds():
    """Wherever seconds are taken a timedelta is, and it is kept as seconds."""
    second = timedelta(seconds=1)
    made = scenario(
        error_injection=config(during=(0, 2 * second)),
        expected_recovery=ExpectedRecoveryBehavior(
            max_recovery_time=second, success_criteria=SuccessCriteria(response_time_threshold=second)
        ),
        **dict.fromkeys(["timeout", "baseline", "fault", "observe"], second),
    )
    assert (made.timeout, made.baseline, made.fault, made.observe) == (1.0, 1.0, 1.0, 1.0)
    assert made.injections[0].during == (0.0, 2.0)
    assert made.expected_recovery.max_recovery_time == 1.0
    assert made.expected_recovery.success_criteria.response_time_threshold == 1.0


def test_configurations_stay_as_they_were_checked():
    """They are frozen, and what was passed in is copied."""
    given = {"kind": "reset"}
    made = config(parameters=given)
    given["kind"] = "nonsense"
    assert made.parameters == {"kind": "reset"}
    for frozen, name in ((made, "seed"), (scenario(), "id"), (SuccessCriteria(), "tolerance")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(frozen, name, 1)


def test_secrets_are_not_shown():
    """Values of unknown parameters are not in the error, as they may be secret."""
    for wrong in ({"password": "hunter2"}, {"injection_type": Kind.CUSTOM, "parameters": {"token": "hunter2"}}):
        options = wrong if "parameters" in wrong else {"parameters": wrong}
        with pytest.raises(ConfigurationError) as caught:
            config(**options)
        assert "hunter2" not in str(caught.value)


def test_sources():
    """Where a fault happens follows from its target and its parameters."""
    guarded = circuit_breaker()(lambda: None)
    assert config().source == config(target=guarded).source == IN_PROCESS
    assert config(target=proxy()).source == NETWORK
    hooks = config(injection_type=Kind.CUSTOM, target=None, parameters={"begin": int})
    assert hooks.source == HOOKS
    assert config(injection_type=Kind.CUSTOM, parameters={"callable": int}).source == IN_PROCESS


def test_seed_of_a_source():
    """The seed that is given goes before the fault's own, and without any one is made."""
    assert source_of(config(seed=3), 4).seed == 4
    assert source_of(config(seed=3), None).seed == 3
    assert isinstance(source_of(config(), None).seed, int)


def test_timing_and_window_count_from_the_same_moment():
    """A delayed fault with a window begins at the later of both, as an injection alone does."""
    made = source_of(config(during=(2, 9), injection_timing=InjectionTiming.delayed(5)), 1)
    assert (made.start, made.end) == (5.0, 9.0)
    assert source_of(config(during=(2, 9), injection_timing=InjectionTiming.delayed(1)), 1).start == 2.0
