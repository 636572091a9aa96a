"""The pytest plugin, as a project sees it that has installed the package."""

import json
import shlex
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


LEAKING = """
    import pytest

    def put_up():
        injection = inject(service, faults.NetworkFailure())
        injection.__enter__()
        return injection

    def test_innocent():
        assert service() == 1
"""


@pytest.mark.parametrize(
    ("source", "outcomes"),
    [
        (
            """
    @pytest.fixture(autouse=True)
    def forgetful(request):
        if request.node.name == "test_a":
            put_up()
        yield

    def test_a(): pass
    def test_b(): assert service() == 1
""",
            {"passed": 3, "errors": 1},
        ),
        (
            """
    @pytest.fixture
    def late():
        yield
        put_up()

    def test_a(late): pass
    def test_b(): assert service() == 1
""",
            {"passed": 3, "errors": 1},
        ),
        (
            """
    @pytest.fixture
    def failing():
        put_up()
        raise ValueError("half-way")

    def test_a(failing): pass
    def test_b(): assert service() == 1
""",
            {"passed": 2, "errors": 2},
        ),
        (
            """
    class TestIt:
        def setup_method(self, method):
            if method.__name__ == "test_a":
                put_up()

        def test_a(self): pass
        def test_b(self): assert service() == 1
""",
            {"passed": 3, "errors": 1},
        ),
        (
            """
    @pytest.fixture(scope="class")
    def wide():
        put_up()

    @pytest.mark.usefixtures("wide")
    class TestIt:
        def test_a(self): pytest.raises(OSError, service)
        def test_b(self): pytest.raises(OSError, service)

    def test_c(): assert service() == 1
""",
            {"passed": 4, "errors": 1},
        ),
    ],
    ids=["setup", "teardown", "failing setup", "setup_method", "a fixture of a class"],
)
def test_leaks_of_fixtures(run, source, outcomes):
    """What a fixture leaves in force when it is torn down is told as a leak, and no later test meets it."""
    result = run(LEAKING + source)
    result.assert_outcomes(**outcomes)
    result.stdout.fnmatch_lines(["*leak: the test has left inject(*"])


def test_what_fixtures_hold_is_theirs(run):
    """What a fixture will end is no leak, whenever it is asked for, and later tests that use it meet it."""
    run(
        """
    import pytest

    @pytest.fixture(scope="module")
    def down():
        with inject(service, faults.NetworkFailure()):
            yield

    @pytest.fixture
    def corrupt(request):
        with inject(service, faults.CorruptResult(lambda x: -1)):
            yield

    def test_lazy_inner(request):
        request.getfixturevalue("corrupt")
        assert service() == -1

    def test_finalizer(request):
        injection = inject(service, faults.NetworkFailure())
        injection.__enter__()
        request.addfinalizer(injection.remove)
        pytest.raises(OSError, service)

    def test_before():
        assert service() == 1

    def test_lazy(request):
        request.getfixturevalue("down")
        pytest.raises(OSError, service)

    def test_next(down):
        pytest.raises(OSError, service)
"""
    ).assert_outcomes(passed=5)


def test_clocks_and_proxies_leak_too(run):
    """A virtual clock or a proxy that a test or a fixture leaves in force is told as a leak, and ended."""
    result = run(
        """
    import asyncio
    import socket
    import pytest
    from resilient.testing import FaultProxy, VirtualClock

    KEPT, LOOP = [], asyncio.new_event_loop()

    def clock(): return VirtualClock().__enter__()
    def proxy_in_a_thread(): return FaultProxy("127.0.0.1", 9).__enter__()
    def proxy_in_a_loop(): return LOOP.run_until_complete(FaultProxy("127.0.0.1", 9).__aenter__())
    def proxy_in_a_closed_loop(): return asyncio.run(FaultProxy("127.0.0.1", 9).__aenter__())

    every = pytest.mark.parametrize("put", [clock, proxy_in_a_thread, proxy_in_a_loop, proxy_in_a_closed_loop])

    @every
    def test_a(put): KEPT.append(put())

    @pytest.fixture
    def forgetful(put): KEPT.append(put())

    @every
    def test_b(put, forgetful): pass

    def test_c():
        assert VirtualClock.in_use() is None
        assert len(KEPT) == 8
        for one in KEPT:
            if isinstance(one, FaultProxy):
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(one.address, timeout=5)
"""
    )
    result.assert_outcomes(passed=5, failed=4, errors=4)
    lines = [
        line for line in result.outlines if line.startswith(("E ", "leak: ")) and "leak: the test has left" in line
    ]
    assert [sum(name in one for one in lines) for name in ("a VirtualClock in", "<FaultProxy 127.0.0.1:")] == [2, 6]


def test_what_is_older_than_the_tests(run, pytester):
    """What a conftest.py has put in force for the whole run is no test's leak."""
    pytester.makeconftest(
        """
    import sys
    from resilient.testing import faults, inject
    inject("json:dumps", faults.CorruptResult(lambda x: "odd")).__enter__()
"""
    )
    run(
        """
    import json

    def test_one(): assert json.dumps(1) == "odd"
    def test_two(): assert json.dumps(1) == "odd"
"""
    ).assert_outcomes(passed=2)


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


@pytest.mark.parametrize(
    "body",
    [
        "with inject(service, faults.NetworkFailure(), rate=0.5): assert 0",
        "with FaultProxy('127.0.0.1', 9): assert 0",
    ],
)
def test_a_failure_without_the_fixture_says_it_too(run, body):
    """Whatever drew a seed in a failing test, the command that repeats it is shown; tests without faults show none."""
    result = run(
        f"""
    from resilient.testing import FaultProxy

    def test_one():
        {body}

    def test_two():
        assert 0, "no faults"
""",
        "--resilience-seed=7",
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["pytest test_it.py::test_one --resilience-seed 7"])
    result.stdout.no_fnmatch_line("pytest test_it.py::test_two *")


@pytest.mark.parametrize("option", ["-q", "-qq", "--no-header"])
def test_the_seed_without_the_header(run, option):
    """Where pytest shows no header, the seed is shown at the end."""
    result = run("def test_one(): pass", "--resilience-seed=7", option)
    result.stdout.fnmatch_lines(["resilience seed: 7 (the same faults again: --resilience-seed 7)"])


def test_the_command_of_a_repetition(run, pytester):
    """The command that a repeated test shows when it fails repeats it, with its seed."""
    source = """
    import pytest

    @pytest.mark.resilience
    def test_one(chaos):
        print("drawn", chaos.seed)
        assert 0
"""
    first = run(source, "--resilience-repeat=2", "--resilience-seed=5")
    first.assert_outcomes(failed=2)
    (_, command) = [line for line in first.outlines if line.startswith("pytest ")]
    second = run(source, *shlex.split(command)[1:])
    second.assert_outcomes(failed=1)
    drawn = [[line for line in one.outlines if line.startswith("drawn")] for one in (first, second)]
    assert drawn[0][1:] == drawn[1]


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


def test_markers_add_up(run):
    """Faults of a class and of its test are injected both; the seed is that of the closest marker that gives one."""
    run(
        """
    import pytest

    @pytest.mark.resilience(seed=3, faults=[("service", faults.CorruptResult(lambda x: x + 1))])
    class TestIt:
        @pytest.mark.resilience(faults=[("service", faults.CorruptResult(lambda x: x * 10), {"max_count": 1})])
        def test_one(self, chaos):
            assert [service(), service()] in ([11, 2], [20, 2])
            assert chaos.seed == 3

        @pytest.mark.resilience(seed="own")
        def test_two(self, chaos):
            assert service() == 2
            assert chaos.seed == "own"
"""
    ).assert_outcomes(passed=2)


def test_markers_that_mean_nothing(run):
    """A marker with a typing error, or a wrong type, fails its test; otherwise it would pass without faults."""
    wrong = {
        "fault=[]": "*means nothing: fault; it takes seed= and faults=, by their names",
        "sed=5": "*means nothing: sed; *",
        "5": "*means nothing: 5; *",
        "seed=1.5": "*seed=1.5: must be a whole number or a text",
        "seed=True": "*seed=True: must be *",
        "faults=['service', faults.Latency(0)]": "*faults: must be a list of pairs (target, fault), or *",
        "faults='ab'": "*faults: must be a list of pairs *",
        "faults=[('service', faults.Latency(0), 1)]": "*faults: must be a list of pairs *",
    }
    tests = [
        f"""
    @pytest.mark.resilience({text})
    def test_{number}(): pass"""
        for number, text in enumerate(wrong)
    ]
    result = run("\n".join(["    import pytest", *tests]))
    result.assert_outcomes(errors=len(wrong))
    result.stdout.fnmatch_lines([f"@pytest.mark.resilience: {one.lstrip('*')}" for one in wrong.values()])


def test_marked_tests_are_repeated(run):
    """Marked tests, and those with a fixture that injects, run several times, with other seeds; the others once."""
    result = run(
        """
    import pytest
    seeds = set()

    @pytest.mark.resilience
    def test_one(chaos):
        seeds.add(chaos.seed)

    def test_two():
        assert len(seeds) == 3

    def test_three(chaos):
        pass
""",
        "--resilience-repeat=3",
    )
    result.assert_outcomes(passed=7)


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


def test_reports_of_tests_with_odd_names(run, pytester):
    """Each test has a file of its own, whatever its name has, and however long that is."""
    ids = ["a/b", "a_b", "a b", "x" * 300, "x" * 301]
    run(
        f"""
    import pytest

    @pytest.mark.parametrize("_", range({len(ids)}), ids={ids!r})
    def test_one(chaos, recovery, _):
        pass
""",
        "--resilience-report=out",
    ).assert_outcomes(passed=len(ids))
    files = list((pytester.path / "out").iterdir())
    assert len(files) == len(ids)
    assert {json.loads(one.read_text())["test"] for one in files} == {f"test_it.py::test_one[{one}]" for one in ids}
    assert max(len(one.name) for one in files) < 200


def test_a_folder_that_cannot_be(run, pytester):
    """A folder for reports that cannot be made ends the run before its first test, with a sentence."""
    (pytester.path / "afile").touch()
    result = run("def test_one(chaos): pass", "--resilience-report=afile")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--resilience-report=afile: the folder cannot be made: File exists*"])


@pytest.mark.parametrize("strict", [(), ("-W", "error")])
def test_a_report_that_cannot_be_written(run, pytester, strict):
    """A file that cannot be written is a warning, and the tests go on."""
    for name in ("test_it.py_test_one.json", "test_it.py_test_two.recovery.html"):
        (pytester.path / "out" / name).mkdir(parents=True)
    result = run(
        f"""{SCENARIO}
    def test_one(chaos): pass
    def test_two(recovery): recovery.run(scenario(service))
    def test_three(chaos): pass
""",
        "--resilience-report=out",
        *strict,
    )
    result.assert_outcomes(passed=3, warnings=0 if strict else 2)
    if not strict:
        result.stdout.fnmatch_lines(["*test_it.py_test_one.json cannot be written: Is a directory*"])
    names = {one.name for one in (pytester.path / "out").iterdir() if one.is_file()}
    assert names >= {"test_it.py_test_three.json", "test_it.py_test_two.recovery.json"}


def test_reports_of_tests_that_go_elsewhere(run, pytester):
    """The folder for reports is where pytest was started, wherever a test goes."""
    source = f"""{SCENARIO}
    def test_one(monkeypatch, tmp_path, recovery):
        monkeypatch.chdir(tmp_path)
        recovery.run(scenario(service))
"""
    run(source, "--resilience-report=out").assert_outcomes(passed=1)
    assert (pytester.path / "out" / "test_it.py_test_one.recovery.json").is_file()


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


def test_no_test_meets_the_floods_of_another(run):
    """A test finds the records that it expects in `caplog`, whatever an earlier one has logged for the same policy."""
    result = run(
        """
    import pytest

    @pytest.mark.parametrize("turn", range(3))
    def test_it(turn, caplog):
        for _ in range(5):
            with inject(service, faults.NetworkFailure()), pytest.raises(OSError):
                service()
        assert [one.event for one in caplog.records] == ["retry.exhausted"] * 5
    """
    )
    result.assert_outcomes(passed=3)
