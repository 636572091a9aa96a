"""Many waiters of an event loop that was closed used to end the one who left in a RecursionError."""

import pytest

from .helpers import child

SCRIPT = """
    import asyncio, os, sys
    from resilient import bulkhead

    bulk = bulkhead("bulk", max_concurrent=1, max_wait=None)
    loop, tasks = asyncio.new_event_loop(), []

    async def wait():
        async with bulk:
            pass

    @bulk
    async def call():
        pass

    async def crowd():
        tasks.extend(asyncio.ensure_future(FORM()) for _ in range(1500))
        while bulk.queue_length < 1500:
            await asyncio.sleep(0)

    bulk.__enter__()
    loop.run_until_complete(asyncio.wait_for(crowd(), 5))
    loop.close()
    print(bulk.queue_length)
    bulk.__exit__(None, None, None)
    print(bulk.available_permits, bulk.queue_length, bulk.active_requests)
    with bulk:
        print("inside")
    asyncio.run(FORM())
    sys.stdout.flush()
    os._exit(0)
"""


@pytest.mark.parametrize("form", ["wait", "call"])
def test_waiters_of_a_closed_loop(form):
    """Leaving passes over all of them, and the place is free again."""
    assert child(SCRIPT.replace("FORM", form)).split("\n") == ["1500", "1 0 0", "inside"]
