"""One `deadline` object used by several threads or tasks used to mix up what it restores."""

import asyncio
import threading

from resilient import deadline, remaining_time


def test_deadline_shared_by_threads():
    """One object may be entered by several threads at once, and each gets its own time back."""
    shared, inside, ends = deadline(5), threading.Barrier(4, timeout=5), []

    def work():
        with shared:
            inside.wait()
            ends.append(remaining_time() is not None)
        ends.append(remaining_time() is None)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert ends.count(True) == 8


def test_deadline_shared_by_tasks():
    """One object may be entered by several tasks at once, and nested in itself."""
    shared = deadline(5)

    async def work():
        with shared:
            await asyncio.sleep(0)
            with shared:
                await asyncio.sleep(0)
            inner = remaining_time()
        return inner is not None and remaining_time() is None

    async def go():
        return await asyncio.gather(*(work() for _ in range(5)))

    assert asyncio.run(go()) == [True] * 5
