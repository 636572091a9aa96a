"""`Pipeline.check()`: what it finds, with which numbers, in which order; and pipelines as objects."""

import pytest
import tenacity

from resilient import (
    ConfigurationError,
    Pipeline,
    SmartTimeout,
    TieredTimeout,
    TimeoutTier,
    bulkhead,
    circuit_breaker,
    degrade,
    failover,
    retry,
    timeout,
)

FIXED = {"base_delay": 1, "multiplier": 1, "jitter": False}


def findings(*policies):
    """Return the findings before the summary, by code."""
    return {finding.code: finding for finding in Pipeline(*policies).check()[:-1]}


def summary(*policies):
    return Pipeline(*policies).check()[-1]


@pytest.mark.parametrize(
    ("policies", "severity"),
    [
        ([timeout(5), retry(max_attempts=2), timeout(5)], "error"),
        ([timeout(5), timeout(7)], "warning"),
    ],
    ids=["retried", "plain"],
)
def test_attempt_timeout_exceeds_total(policies, severity):
    """An inner limit that is not shorter than an outer one is told with both; with a retry between it is an error."""
    finding = findings(*policies)["attempt_timeout_exceeds_total"]
    assert finding.severity == severity
    assert finding.numbers == {"attempt_timeout": policies[-1].limit, "total_timeout": 5.0}


def test_attempt_timeout_that_fits():
    """A shorter inner limit, or none, is no finding."""
    assert findings(timeout(5), retry(max_attempts=2, **FIXED), timeout(1)) == {}


@pytest.mark.parametrize(
    ("retrying", "breaker", "waits"),
    [
        ({}, {"recovery_timeout": 60}, 60),
        ({"max_elapsed": 10}, {"recovery_timeout": 60, "recovery_jitter": 0.5}, 90),
        ({}, {"recovery_timeout": 60, "recovery_multiplier": 2, "max_recovery_timeout": 600}, 600),
        ({}, {"recovery_timeout": 60, "max_recovery_timeout": 600}, 60),
    ],
    ids=str,
)
@pytest.mark.parametrize("built_in", [False, True])
def test_retry_outside_breaker(retrying, breaker, waits, built_in):
    """A retry that waits out a breaker's open period is told with that period and what bounds it."""
    inner = circuit_breaker(**breaker)
    finding = findings(retry(**retrying), bulkhead(circuit_breaker=inner) if built_in else inner)
    finding = finding["retry_outside_breaker"]
    assert finding.severity == "warning"
    assert finding.numbers == {
        "recovery_timeout": 60.0,
        "longest_wait": waits,
        "max_elapsed": retrying.get("max_elapsed"),
    }


@pytest.mark.parametrize(
    "options",
    [
        {"give_up_on": __import__("resilient").CircuitOpenError},
        {"on": OSError},
        {"max_attempts": 1},
        {"max_elapsed": 60},
    ],
    ids=str,
)
def test_retry_that_regards_its_breaker(options):
    """A retry that leaves rejections alone, or may last as long as the open period, is no finding."""
    assert "retry_outside_breaker" not in findings(retry(**options), circuit_breaker(recovery_timeout=60))


def test_retries_multiply():
    """Retries that retry each other's exhausted errors are told with the product."""
    outer = retry(max_attempts=4, retry_exhausted=True, **FIXED)
    assert findings(outer, retry(max_attempts=5, **FIXED))["retries_multiply"].numbers == {"attempts": 20}
    assert findings(retry(**FIXED), retry(**FIXED)) == {}


def test_degrade_inside_retry():
    """A fallback inside a retry hides the failures from it."""
    finding = findings(retry(max_attempts=4), degrade(fallback=1))["degrade_inside_retry"]
    assert (finding.severity, finding.numbers) == ("warning", {"max_attempts": 4})


def test_bulkhead_outside_retry():
    """A place kept while a retry sleeps is told with the seconds it sleeps."""
    finding = findings(bulkhead(), retry(max_attempts=3, **FIXED))["bulkhead_outside_retry"]
    assert (finding.severity, finding.numbers) == ("info", {"sleeping": 2.0})


def test_bulkhead_waits_without_limit():
    """A retry of a rejection that never comes is told."""
    assert "bulkhead_waits_without_limit" in findings(retry(), bulkhead(max_wait=None))
    assert "bulkhead_waits_without_limit" not in findings(retry(), bulkhead(max_wait=1))
    assert "bulkhead_waits_without_limit" not in findings(retry(on=OSError), bulkhead(max_wait=None))


@pytest.mark.parametrize(
    ("policies", "seconds", "calls"),
    [
        ([retry(max_attempts=3, **FIXED), timeout(10)], 32.0, 3),
        ([timeout(5), retry(max_attempts=3, **FIXED), timeout(10)], 5.0, 3),
        ([retry(max_attempts=3, **FIXED)], None, 3),
        ([retry(max_attempts=None, **FIXED), timeout(1)], None, None),
        ([retry(max_attempts=None, max_elapsed=20, **FIXED), timeout(1)], 21.0, None),
        ([retry(max_attempts=3, max_elapsed=1, **FIXED), timeout(1)], 2.0, 3),
        ([bulkhead(max_wait=4), timeout(1)], 5.0, 1),
        ([bulkhead(max_wait=None), timeout(1)], None, 1),
        ([retry(max_attempts=3, base_delay=1, jitter=0.5), timeout(1)], 3 + 1.5 + 3, 3),
        ([retry(max_attempts=3, base_delay=1, jitter="full"), timeout(1)], 3 + 1 + 2, 3),
        ([retry(max_attempts=3, max_delay=7, backoff=lambda n: n), timeout(1)], 3 + 14, 3),
        ([retry(max_attempts=3, max_delay=7, backoff=tenacity.wait_fixed(1)), timeout(1)], 3 + 14, 3),
        ([retry(max_attempts=2, retry_exhausted=True, **FIXED), retry(max_attempts=3, **FIXED), timeout(1)], 11.0, 6),
        ([circuit_breaker(), degrade(fallback=1)], None, 1),
    ],
    ids=str,
)
def test_worst_case(policies, seconds, calls):
    """The last finding has the longest duration and the most calls of the function, None where nothing bounds them."""
    last = summary(*policies)
    assert last.code == "worst_case"
    assert last.numbers == {
        "worst_case_seconds": seconds if seconds is None else pytest.approx(seconds),
        "amplification": calls,
    }
    assert ("without a limit" in str(last)) == (None in (seconds, calls))


def test_worst_case_of_what_calls_again():
    """Tiers and failovers count with all their tries and targets; an adaptive limit with its greatest."""

    def read():
        return 1

    def numbers(*policies):
        found = Pipeline(*policies).check()[-1].numbers
        return found["amplification"], found["worst_case_seconds"]

    tiers = TieredTimeout().add_tier(TimeoutTier("report", 1, 2, 2.0))
    once_more = retry(max_attempts=2, base_delay=0)
    assert numbers(tiers("report")) == (3, 7)
    assert numbers(once_more, tiers("report")) == (6, 14)
    assert numbers(tiers("report"), timeout(1.5)) == (3, 1 + 1.5 + 1.5)
    assert numbers(failover(read, read).policies[0], timeout(2)) == (2, 4)
    assert numbers(timeout(SmartTimeout(1, max_timeout=5))) == (1, 5)


def test_tiers_among_the_others():
    """A tier is a timeout with tries of its own: too long for what is around it, or multiplied by a retry."""
    tiers = TieredTimeout().add_tier(TimeoutTier("report", 10, 2, 1.0)).add_tier(TimeoutTier("once", 10, 0, 1.0))
    assert findings(timeout(5), tiers("report"))["attempt_timeout_exceeds_total"].severity == "error"
    assert findings(timeout(5), tiers("once"))["attempt_timeout_exceeds_total"].severity == "warning"
    assert findings(timeout(50), tiers("report")) == {}
    multiplied = findings(retry(max_attempts=3, base_delay=0), tiers("report"))["retries_multiply"]
    assert multiplied.numbers == {"attempts": 9}
    assert "tries 3 times" in str(multiplied)
    assert findings(retry(max_attempts=3, base_delay=0), tiers("once")) == {}


def test_order_of_findings():
    """Findings come worst first, the summary last, and each reads as its severity and a sentence."""
    found = Pipeline(
        bulkhead(), timeout(5), retry(max_attempts=2, **FIXED), timeout(9), circuit_breaker(), degrade(fallback=1)
    ).check()
    severities = [finding.severity for finding in found[:-1]]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert {"error", "warning", "info"} <= set(severities)
    assert [finding.code for finding in found][-1] == "worst_case"
    assert all(str(finding) == f"{finding.severity}: {finding.message}" for finding in found)


def test_pipeline_of_nothing():
    """A pipeline of nothing is refused."""
    with pytest.raises(TypeError, match="at least one"):
        Pipeline()


@pytest.mark.parametrize("thing", [print, retry, 3, None], ids=str)
def test_pipeline_of_no_policies(thing):
    """What is no policy is refused with its repr."""
    with pytest.raises(TypeError, match="is not a policy") as caught:
        Pipeline(retry(), thing)
    assert repr(thing) in str(caught.value)


@pytest.mark.parametrize(("name", "error"), [("", ConfigurationError), (3, TypeError)])
def test_pipeline_names(name, error):
    """Its name is checked like any other."""
    with pytest.raises(error, match="name="):
        Pipeline(retry(), name=name)


def test_pipeline_as_object():
    """It shows name and policies, outermost first, those of pipelines within it included."""
    one, two, three = retry(name="a"), timeout(1, name="b"), circuit_breaker("c")
    pipeline = Pipeline(one, Pipeline(two, three), name="p")
    assert pipeline.policies == pipeline.parts == (one, two, three)
    assert repr(pipeline) == "<pipeline p: <retry a> > <timeout b> > <circuit_breaker c>>"
    assert Pipeline(one).name == "pipeline"
