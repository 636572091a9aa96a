"""A WSGI app for the tests of several processes; gunicorn imports it."""

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from resilient import bulkhead, circuit_breaker, metrics, retry

metrics.install()
orders = Counter("shop_orders", "Orders.")
policy = retry(name="shop", max_attempts=3, base_delay=0, jitter=False)
breaker = circuit_breaker("shop", failure_threshold=1)
places = bulkhead("shop", max_concurrent=10)


def work():
    """Call once: an attempt that fails and one that does not."""
    left = iter([ConnectionError("down"), None])

    def body():
        error = next(left)
        if error is not None:
            raise error

    policy.call(body)


def work_in_a_child():
    """Fork a process that calls three times, and wait for its end."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    for _ in range(3):
        work()
    breaker.isolate()
    generate_latest(REGISTRY)
    os._exit(0)


for _ in range(int(os.environ.get("SHOP_CALLS_AT_IMPORT", "0"))):
    work()


def app(environ, start_response):
    """Answer /work, /fork, /open and /metrics; everything else tells the number of the process."""
    path = environ["PATH_INFO"]
    answer = str(os.getpid()).encode()
    if path == "/work":
        work()
        orders.inc()
    elif path == "/fork":
        work_in_a_child()
    elif path == "/isolate":
        breaker.isolate()
    elif path == "/metrics":
        generate_latest(REGISTRY)  # brings the files of this process up to date
        target = CollectorRegistry()
        MultiProcessCollector(target)
        answer = generate_latest(target)
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
