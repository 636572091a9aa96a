"""Seeds that nobody gave: they follow from one number, and the command that is told brings all of them again."""

import os
import subprocess
import sys
import threading

import pytest

from resilient import ConfigurationError
from resilient.testing import seeds


@pytest.fixture
def unset(monkeypatch):
    """A process that has made no seed yet, outside the session of the test."""
    monkeypatch.setattr(seeds, "_session", None)
    monkeypatch.setattr(seeds, "_base", None)
    monkeypatch.setattr(seeds, "_made", 0)
    monkeypatch.delenv(seeds.VARIABLE, raising=False)
    return monkeypatch


def start_again(unset, asked=None):
    """As a new process would."""
    unset.setattr(seeds, "_base", None)
    unset.setattr(seeds, "_made", 0)
    if asked is not None:
        unset.setenv(seeds.VARIABLE, str(asked))


@pytest.mark.parametrize("asked", [7, 0, -3])
def test_variable_is_the_first_seed(unset, asked):
    """The number of RESILIENT_SEED is the first seed itself; further ones differ, and are the same every time."""
    start_again(unset, asked)
    first = [seeds.fresh() for _ in range(10)]
    start_again(unset)
    assert [seeds.fresh() for _ in range(10)] == first
    assert first[0] == asked
    assert len(set(first)) == 10


def test_told_number_brings_all_again(unset):
    """Where no number was given one is drawn, and the command that is told has all seeds made from it again."""
    first = [seeds.fresh() for _ in range(5)]
    told = seeds.command().split()[0].removeprefix("RESILIENT_SEED=")
    start_again(unset, told)
    assert [seeds.fresh() for _ in range(5)] == first


def test_drawn_numbers_differ(unset):
    """Two processes that were told nothing have different seeds."""
    drawn = set()
    for _ in range(5):
        start_again(unset)
        drawn.add(seeds.fresh())
    assert len(drawn) == 5


@pytest.mark.parametrize("asked", ["x", "1.5", "--1", "0x10", "1 2"])
def test_wrong_variable_is_told(unset, asked):
    """What is no whole number is refused, with the variable's name and what would be right."""
    start_again(unset, asked)
    with pytest.raises(ConfigurationError, match=f"RESILIENT_SEED={asked!r}: must be a whole number"):
        seeds.fresh()


def test_session_has_its_own(unset):
    """Inside a session the seeds are its own, the same in each session of that seed, and outside they go on."""
    start_again(unset, 5)
    outside = [seeds.fresh()]
    inside = []
    for _ in range(2):
        with seeds.session("9", "pytest x"):
            inside.append([seeds.fresh() for _ in range(3)])
            assert seeds.command() == "pytest x"
    outside.append(seeds.fresh())
    start_again(unset)
    assert outside == [seeds.fresh(), seeds.fresh()]
    assert inside[0] == inside[1]
    with seeds.session("10", ""):
        assert seeds.fresh() not in inside[0]


def test_session_ends_with_an_error(unset):
    """A session that ends with an error is over."""
    with pytest.raises(LookupError), seeds.session("9", "pytest x"):
        raise LookupError
    assert seeds.command() != "pytest x"


def test_threads_never_share_a_seed(unset):
    """Threads that draw at once each get another one."""
    start_again(unset, 1)
    drawn = []
    barrier = threading.Barrier(8)

    def draw():
        barrier.wait()
        drawn.extend(seeds.fresh() for _ in range(200))

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(drawn) == len(set(drawn)) == 1600


@pytest.mark.parametrize("way", ["script", "module", "-c"])
def test_command_is_what_was_typed(tmp_path, way):
    """The command has the interpreter's own options, how the program was named, and its arguments, quoted."""
    code = "from resilient.testing import seeds; print(seeds.command())"
    (tmp_path / "some_program.py").write_text(code, "utf-8")
    named = {"script": ["some_program.py"], "module": ["-m", "some_program"], "-c": ["-c", code]}[way]
    command = [sys.executable, "-X", "utf8", *named, "two words"]
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": paths}  # the folder itself may not be where modules are looked for
    done = subprocess.run(  # noqa: S603 - our own
        command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    told = done.stdout.strip()
    assert told.startswith("RESILIENT_SEED=")
    assert "-X utf8" in told
    assert told.endswith("'two words'")
    assert {"script": "some_program.py", "module": "-m some_program", "-c": "-c 'from "}[way] in told
