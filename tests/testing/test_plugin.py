"""The pytest plugin, as a project sees it that has installed the package."""

import json
from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

SERVICE = """
    from resilient import retry
    from resilient.testing import faults, inject

    @retry(name="service", max_attempts=1)
    def service(x=1):
        return x
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest on one file; the plugin comes by its entry point where the package is installed."""
    installed = any(one.value == "resilient.testing.plugin" for one in entry_points(group="pytest11"))
    plugin = () if installed else ("-p", "resilient.testing.plugin")

    def run(source, *options):
        pytester.makepyfile(test_it=f"{SERVICE}\n{source}")
        return pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider", *options)

    return run


def test_chaos_injects_until_the_test_ends(run):
    """Faults of the fixture are in force during the test, and gone in the next one."""
    run(
        """
    def test_one(chaos):
        injection = chaos.inject("service", faults.CorruptResult(lambda x: x + 1))
        assert (service(), injection.fired) == (2, 1)

    def test_two():
        assert service() == 1
"""
    ).assert_outcomes(passed=2)


@pytest.mark.parametrize("ending", ["pass", "assert False"])
def test_a_leak_fails_the_test(run, ending):
    """A test that leaves a fault in force fails with the word leak, and the next one does not meet it."""
    result = run(
        f"""
    def test_one():
        inject(service, faults.CorruptResult(lambda x: x + 1)).__enter__()
        {ending}

    def test_two():
        assert service() == 1
"""
    )
    result.assert_outcomes(passed=1, failed=1)
    if ending == "pass":
        result.stdout.fnmatch_lines(["*leak: the test has left inject(*"])


def test_the_seed_is_shown_and_can_be_given(run, pytester):
    """The header shows the seed, and with it the same calls meet the fault again."""
    source = """
    import pathlib

    def test_one(chaos):
        chaos.inject("service", faults.CorruptResult(lambda x: -1), rate=0.5)
        with pathlib.Path("hits").open("a") as file:
            print([service() for _ in range(50)], file=file)
"""
    first = run(source, "--resilience-seed", "7")
    first.stdout.fnmatch_lines(["resilience seed: 7 (the same faults again: --resilience-seed 7)"])
    run(source, "--resilience-seed", "7").assert_outcomes(passed=1)
    run(source, "--resilience-seed", "8").assert_outcomes(passed=1)
    run(source).stdout.re_match_lines([r"resilience seed: \d+ \("])
    lines = (pytester.path / "hits").read_text().splitlines()
    assert lines[0] == lines[1] != lines[2]


def test_a_failure_says_how_to_see_it_again(run):
    """A failing test shows the command with the seed, and the injections."""
    result = run(
        """
    def test_one(chaos):
        chaos.inject("service", faults.NetworkFailure())
        service()
""",
        "--resilience-seed=7",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*--resilience-seed 7*", "*inject('service', faults.NetworkFailure('refused'), seed=*"]
    )


def test_the_marker_injects(run):
    """The marker injects pairs of a target and a fault, with its own seed."""
    run(
        """
    import pytest

    @pytest.mark.resilience(seed=3, faults=[("service", faults.CorruptResult(lambda x: 5))])
    def test_one(chaos):
        assert service() == 5
        assert chaos.injections[0].seed == 3
"""
    ).assert_outcomes(passed=1)


def test_marked_tests_are_repeated(run):
    """Marked tests run several times, with other seeds; the others once."""
    result = run(
        """
    import pytest
    seeds = set()

    @pytest.mark.resilience
    def test_one(chaos):
        seeds.add(chaos.seed)

    def test_two():
        assert len(seeds) == 3
""",
        "--resilience-repeat=3",
    )
    result.assert_outcomes(passed=4)


def test_a_report_for_each_test(run, pytester):
    """With a folder for reports, each test with faults writes what came by and what was hit."""
    run(
        """
    def test_one(chaos):
        chaos.inject("service", faults.Latency(0), max_count=1)
        service(), service()
""",
        "--resilience-report=out",
    ).assert_outcomes(passed=1)
    (file,) = (pytester.path / "out").iterdir()
    content = json.loads(file.read_text())
    assert content["test"] == "test_it.py::test_one"
    assert [(one["calls"], one["fired"]) for one in content["injections"]] == [(2, 1)]


def test_the_other_fixtures(run):
    """A virtual clock, an empty registry and fault proxies are there for the asking."""
    run(
        """
    import socket
    from resilient import circuit_breaker, registry

    def test_clock(virtual_clock):
        before = virtual_clock.monotonic()
        virtual_clock.advance(60)
        assert virtual_clock.monotonic() == before + 60

    def test_registry(resilient_registry):
        assert resilient_registry is registry
        assert not registry.retries

    def test_proxy(fault_proxy):
        with socket.create_server(("127.0.0.1", 0)) as server:
            proxy = fault_proxy(*server.getsockname())
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=5):
                assert proxy.port != server.getsockname()[1]
"""
    ).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("option", "words"),
    [("--resilience-seed=x", "must be a whole number, or random"), ("--resilience-repeat=0", "must be at least 1")],
)
def test_bad_options(run, option, words):
    """A bad option ends the run with what would be right."""
    result = run("def test_one(): pass", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{words}*"])


SCENARIO = """
    from resilient.testing import (ErrorInjectionConfig, ErrorInjectionType, ExpectedRecoveryBehavior,
        RecoveryTestScenario)

    def scenario(fn, **options):
        fault = ErrorInjectionConfig(ErrorInjectionType.NETWORK_FAILURE, fn, error_rate=0.5)
        return RecoveryTestScenario("s", "S", "", fn, fault, ExpectedRecoveryBehavior(max_recovery_time=5), 30,
            virtual_time=True, **options)
"""


def test_recovery_runs_scenarios_with_the_seed_of_the_test(run):
    """The fixture is a framework whose seed is the test's: the same option, the same hits; and it writes reports."""
    source = f"""{SCENARIO}
    def test_one(recovery, capsys):
        result = recovery.run(scenario(service))
        with capsys.disabled():
            print("hits", result.seed, [one.ok for one in result.operations])
        result.assert_ok()
        assert "--resilience-seed 5" in result.replay and "test_it.py::test_one" in result.replay
"""
    first, second = (run(source, "--resilience-seed", "5", "-s", "--resilience-report", "out") for _ in range(2))
    first.assert_outcomes(passed=1)
    hits = [[line for line in one.outlines if "hits" in line] for one in (first, second)]
    assert hits[0] == hits[1] != []


def test_recovery_writes_reports(run, pytester):
    """With a folder for reports, what the fixture has run is there as HTML, JSON, JUnit and Markdown."""
    source = f"""{SCENARIO}
    async def service_async():
        return 1

    def test_one(recovery):
        recovery.run(scenario(service)).assert_ok()
"""
    run(source, "--resilience-report", "out").assert_outcomes(passed=1)
    suffixes = {file.name.partition(".recovery.")[2] for file in (pytester.path / "out").iterdir()}
    assert suffixes >= {"html", "json", "xml", "md"}


def test_injections_without_a_seed_have_the_one_of_the_test(run):
    """What a test injects without the fixture, and without a seed, is the same again with the same option."""
    source = """
    def test_one(capsys):
        with inject(service, faults.NetworkFailure(), rate=0.5) as one, inject(service, faults.Latency(0)) as two:
            with capsys.disabled():
                print("seeds", one.seed, two.seed)
        assert one.seed != two.seed
"""
    results = [run(source, "--resilience-seed", seed, "-s") for seed in ("5", "5", "6")]
    seeds = [[line for line in one.outlines if "seeds" in line] for one in results]
    assert seeds[0] == seeds[1] != seeds[2]
