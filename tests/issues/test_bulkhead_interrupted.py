"""An interrupt while competing for a place used to lose the place for good."""

import pytest

from .helpers import child

SCRIPT = """
    import random, signal, threading, time
    from resilient import bulkhead

    bulk = bulkhead("bulk", max_concurrent=2, max_wait=None)
    armed = stop = False

    def interrupt(*_):
        if armed:
            raise KeyboardInterrupt

    @bulk
    def work():
        return sum(range(5))

    def compete():
        while not stop:
            work()

    others = [threading.Thread(target=compete, daemon=True) for _ in range(3)]
    for other in others:
        other.start()
    signal.signal(signal.SIGALRM, interrupt)
    chance, end = random.Random(SEED), time.monotonic() + 0.5
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    while time.monotonic() < end:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 3e-4), 0.05)
            for _ in range(50):
                work()
            armed = False
        except KeyboardInterrupt:
            armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    stop = True
    for other in others:
        other.join(2)
    print("working:", sum(other.is_alive() for other in others))
    print("free:", bulk._places.free, "waiting:", bulk.queue_length, "inside:", bulk.active_requests)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_interrupts_while_competing(seed):
    """KeyboardInterrupt in one of four threads that compete for two places leaves both free afterwards."""
    lines = child(SCRIPT.replace("SEED", str(seed))).split("\n")
    assert lines == ["working: 0", "free: 2 waiting: 0 inside: 0"]
