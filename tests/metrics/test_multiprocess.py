"""What a process writes in the multiprocess mode of prometheus_client, and what it does not write twice."""

import os
import subprocess
import sys

import pytest

SETUP = """
import os, sys, threading
from prometheus_client import CollectorRegistry, REGISTRY, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from resilient import circuit_breaker, metrics, registry, retry
from resilient.retry import RetryBudget

def read():
    generate_latest(REGISTRY)
    target = CollectorRegistry()
    MultiProcessCollector(target)
    return {
        (s.name, *sorted((k, v) for k, v in s.labels.items() if k != "pid")): s.value
        for family in target.collect() for s in family.samples
    }
"""


def run(folder, code):
    """Run a program with a folder for the files; return what it prints."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-c", SETUP + code]
    done = subprocess.run(  # noqa: S603
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_gauges_that_are_gone(tmp_path):
    """A gauge whose policy is gone, or that says nothing any more, does not stay in the file as it was."""
    code = """
metrics.install()
with registry.scoped():
    breaker, poor = circuit_breaker("b"), retry(name="r", budget=RetryBudget(0, 3))
    breaker.isolate()
    here = read()
    breaker.reset()
    back = read()
    breaker.isolate()
    read()
gone = read()
name = ("name", "b")
print(here["recovery_circuit_breaker_forced", name, ("state", "isolated")],
      back["recovery_circuit_breaker_forced", name, ("state", "isolated")],
      here["recovery_circuit_breaker_state", name], gone["recovery_circuit_breaker_state", name],
      gone["recovery_retry_budget_tokens", ("name", "r")],
      gone["recovery_circuit_breaker_state_changes_total", name])
"""
    assert run(tmp_path, code) == ["1.0", "0.0", "1.0", "0.0", "inf", "3.0"]


def test_a_process_with_a_number_used_before(tmp_path):
    """Counters go on from what an earlier process of the same number had written, as those of the client do."""
    code = """
metrics.install()
policy = retry(name="r", base_delay=0)
policy.call(int)
print(os.getpid(), read()["recovery_retry_success_total", ("name", "r")])
"""
    number, first = run(tmp_path, code)
    before = {path.name.removesuffix(f"_{number}.db"): path for path in tmp_path.glob(f"*_{number}.db")}
    assert before
    again = """
for path in list(os.scandir(os.environ["PROMETHEUS_MULTIPROC_DIR"])):
    os.rename(path.path, path.path.rpartition("_")[0] + f"_{os.getpid()}.db")
"""
    second = run(tmp_path, again + code)
    assert (first, second[1]) == ("1.0", "2.0")


def test_installed_twice_over(tmp_path):
    """Two registries in one process, and one that is taken out and installed again, count nothing twice."""
    code = """
other = CollectorRegistry()
metrics.install(); metrics.install(other)
policy = retry(name="r", base_delay=0)
policy.call(int); read()
metrics.uninstall(other); metrics.install(other)
policy.call(int); generate_latest(other); read()
metrics.uninstall(); metrics.install()
policy.call(int)
print(read()["recovery_retry_success_total", ("name", "r")])
"""
    assert run(tmp_path, code) == ["3.0"]


def test_a_fork_while_it_is_written(tmp_path):
    """A child that is forked while the files are being written can write its own, and use prometheus_client."""
    code = """
from prometheus_client import Counter
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
metrics.install()
policies = [retry(name=f"r{number}", base_delay=0) for number in range(50)]
own = Counter("own", "Own.")
stop = threading.Event()
def scrape():
    while not stop.is_set():
        policies[0].call(int)
        generate_latest(REGISTRY)
threading.Thread(target=scrape, daemon=True).start()
for _ in range(10):
    child = os.fork()
    if not child:
        policies[1].call(int)
        own.inc()
        generate_latest(REGISTRY)
        os._exit(0)
    watch = threading.Timer(20, os.kill, (child, 9))
    watch.start()
    _, status = os.waitpid(child, 0)
    watch.cancel()
    assert status == 0, status
stop.set()
shown = read()
print(shown["recovery_retry_success_total", ("name", "r1")], shown[("own_total",)])
"""
    assert run(tmp_path, code) == ["10.0", "10.0"]


def test_the_last_second(tmp_path):
    """A process that ends in good order writes what it has counted since the last time."""
    run(tmp_path, 'metrics.install(); retry(name="r", base_delay=0).call(int)')
    code = """
target = CollectorRegistry()
MultiProcessCollector(target)
print(target.get_sample_value("recovery_retry_success_total", {"name": "r"}))
"""
    assert run(tmp_path, code) == ["1.0"]


@pytest.mark.parametrize("what", ["gone", "a file"])
def test_a_folder_that_cannot_be_written(tmp_path, what):
    """Calls go on, and the failure is logged, where the folder of the files is of no use."""
    folder = tmp_path / "files"
    if what == "a file":
        folder.write_text("")
    code = """
import logging

class Shown(logging.Handler):
    seen = threading.Event()
    def emit(self, record):
        if not self.seen.is_set():
            print(record.event, flush=True)
        self.seen.set()

logging.getLogger("resilient.metrics").addHandler(Shown())
metrics.install()
policy = retry(name="r", base_delay=0)
assert Shown.seen.wait(10)
policy.call(int)
print(policy.get_metrics().succeeded, flush=True)
os._exit(0)
"""
    assert run(folder, code) == ["metrics.not_written", "1"]


def test_a_subscriber_that_hangs(tmp_path):
    """One that hangs in the thread that writes holds up neither scrapes nor forks."""
    code = """
from resilient.events import CircuitStateChanged

metrics.install()
hung, never, main = threading.Event(), threading.Event(), threading.main_thread()

def hang(event):
    if threading.current_thread().name == "resilient-metrics":
        hung.set()
        never.wait()

registry.subscribe(hang, CircuitStateChanged)
breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=0.01)
try:
    breaker.call(int, "x")
except ValueError:
    pass
assert hung.wait(10)
retry(name="r").call(int)
shown = read()["recovery_retry_success_total", ("name", "r")]
pid = os.fork()
if not pid:
    os._exit(0)
os.waitpid(pid, 0)
print(shown, "forked", flush=True)
os._exit(0)
"""
    assert run(tmp_path, code) == ["1.0", "forked"]
