"""Ctrl-C that came just as a call ended used to hang its caller for good."""

from .helpers import child

SETUP = """
    import _thread, signal, threading, time
    from resilient import timeout
    from resilient.timeout import workers

    workers.IDLE_SECONDS = 0.05

    def remaining():
        return [thread for thread in threading.enumerate() if thread.name == "resilient-timeout"]

    def wait_for_the_end_of_all():
        end = time.monotonic() + 5
        while remaining() and time.monotonic() < end:
            time.sleep(0.01)
        print("left:", len(remaining()), "abandoned:", f.policies[0].abandoned)
"""


def test_interrupt_as_the_call_ends():
    """KeyboardInterrupt comes at once, and the thread of the call retires."""
    script = """
    @timeout(30)
    def f():
        _thread.interrupt_main()
        return 1

    interrupted = 0
    for _ in range(20):
        try:
            f()
        except KeyboardInterrupt:
            interrupted += 1
    print(interrupted)
    wait_for_the_end_of_all()
    """
    assert child(SETUP + script).split("\n") == ["20", "left: 0 abandoned: 0"]


def test_interrupt_while_the_call_works():
    """KeyboardInterrupt comes at once, the call is counted as abandoned until it ends, and its thread retires."""
    script = """
    go_on = threading.Event()

    @timeout(30)
    def f():
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        go_on.wait(10)

    signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        f()
    except KeyboardInterrupt:
        print("abandoned:", f.policies[0].abandoned)
    go_on.set()
    wait_for_the_end_of_all()
    """
    assert child(SETUP + script).split("\n") == ["abandoned: 1", "left: 0 abandoned: 0"]
