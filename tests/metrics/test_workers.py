"""The multiprocess mode of prometheus_client with real gunicorn workers, their forks and their deaths."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

HERE = Path(__file__).parent
CONFIG = """
from prometheus_client import multiprocess

def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""
NAME = ("name", "shop")


class Shop:
    """The app in two gunicorn workers."""

    def __init__(self, folder, *arguments, **environment):
        (folder / "gunicorn.conf.py").write_text(CONFIG)
        (folder / "files").mkdir()
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "--workers", "2", *arguments,
                   "--bind", f"fd://{listener.fileno()}", "--pythonpath", str(HERE), "shop_app:app"]  # fmt: skip
        environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder / "files")} | environment
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(  # noqa: S603
            command, cwd=folder, env=environment, pass_fds=[listener.fileno()], stdout=self.log, stderr=self.log
        )
        listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(15)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()

    def get(self, path):
        with urlopen(self.url + path, timeout=20) as response:  # noqa: S310
            return response.read().decode()

    def workers(self):
        """Return the numbers of two workers that answer."""
        found = set()
        wait_for(lambda: found.add(int(self.get("/"))) or len(found) == 2)
        return found

    def scrape(self):
        """Return every sample's value by its name and labels."""
        families = text_string_to_metric_families(self.get("/metrics"))
        return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}

    def settled(self, sample, value):
        """Return a scrape in which a sample of the shop has come to a value."""
        seen = {}
        wait_for(lambda: seen.update(self.scrape()) or seen.get((sample, NAME)) == value, lambda: seen)
        return self.scrape()


def wait_for(condition, told=lambda: None, seconds=20):
    """Wait until a condition is true."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < end, told()
        pause.wait(0.05)


def states(shown):
    """Return the state of the breaker by process."""
    return {int(key[2][1]): value for key, value in shown.items() if key[0] == "recovery_circuit_breaker_state"}


def counted(shown):
    return [shown[f"recovery_retry_{what}", NAME] for what in ("attempts_total", "success_total", "failure_total")]


def test_two_workers(tmp_path):
    """Sums and buckets over both are exact, gauges follow their meaning, and a state is told for each process."""
    with Shop(tmp_path) as shop:
        workers = shop.workers()
        busy = {int(shop.get("/work")) for _ in range(40)}
        shown = shop.settled("recovery_retry_success_total", 40)
        assert busy <= workers
        assert counted(shown) == [80, 40, 0]
        assert shown["recovery_retry_latency_seconds_count", NAME] == 40
        assert shown["recovery_retry_latency_seconds_bucket", ("le", "+Inf"), NAME] == 40
        assert shown["recovery_calls_total", ("kind", "retry"), NAME, ("result", "success")] == 40
        assert shown["recovery_bulkhead_capacity", NAME] == 20
        assert shown[("shop_orders_total",)] == 40
        wait_for(lambda: states(shop.scrape()).keys() == workers)

        isolated = int(shop.get("/isolate"))
        wait_for(lambda: states(shop.scrape()) == {pid: int(pid == isolated) for pid in workers})
        assert shop.scrape()["recovery_circuit_breaker_forced", NAME, ("state", "isolated")] == 1


def test_the_death_of_a_worker(tmp_path):
    """What a killed worker had counted stays, its gauges go, and the one in its place counts from there."""
    with Shop(tmp_path) as shop:
        workers = shop.workers()
        for _ in range(20):
            shop.get("/work")
        shop.settled("recovery_retry_success_total", 20)
        killed = int(shop.get("/isolate"))
        wait_for(lambda: states(shop.scrape()).get(killed) == 1)
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: killed not in states(shop.scrape()))

        (left,) = workers - {killed}
        after = shop.workers()
        assert left in after
        assert killed not in after
        for _ in range(10):
            shop.get("/work")
        shown = shop.settled("recovery_retry_success_total", 30)
        assert counted(shown) == [60, 30, 0]
        wait_for(lambda: states(shop.scrape()) == dict.fromkeys(after, 0))
        assert shop.scrape()["recovery_bulkhead_capacity", NAME] == 20


def test_calls_before_a_fork(tmp_path):
    """What was counted before workers were forked, or before a worker forked, is counted once."""
    with Shop(tmp_path, "--preload", SHOP_CALLS_AT_IMPORT="5") as shop:
        workers = shop.workers()
        shown = shop.settled("recovery_retry_success_total", 5)
        assert counted(shown) == [10, 5, 0]
        for _ in range(20):
            shop.get("/work")
        shop.settled("recovery_retry_success_total", 25)
        forked = {int(shop.get("/fork")) for _ in range(4)}
        shown = shop.settled("recovery_retry_success_total", 37)
        assert forked <= workers
        assert counted(shown) == [74, 37, 0]
        assert shown["recovery_retry_latency_seconds_count", NAME] == 37
        assert shown[("shop_orders_total",)] == 20
