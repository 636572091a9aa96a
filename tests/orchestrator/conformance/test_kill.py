"""A process is killed at every write of its journal, and another goes on: nothing is lost, and nothing done twice."""

import signal

import pytest

from resilient.orchestrator import ExecutionStatus

from .helpers import at_once
from .wreck import Wreck

COMPLETED, ROLLED_BACK = ExecutionStatus.COMPLETED, ExecutionStatus.ROLLED_BACK
MOMENTS = ("before", "after")


@pytest.mark.parametrize(("fails", "status"), [(True, ROLLED_BACK), (False, COMPLETED)], ids=["fails", "completes"])
def test_killed_at_every_write(wrecks, fails, status):
    """Killed before or after any write, an execution ends as it would have, and completed steps stay as they are."""
    child, _, _ = wrecks.run("counted", "drive", ["big", fails])
    assert child.told["status"] == status.name
    writes = child.told["writes"]
    assert writes >= 8

    def at(number, moment):
        name = f"{moment}-{number}"
        dead, kit, folder = wrecks.run(name, "drive", ["big", fails], strike=[number, moment, "SIGKILL"])
        try:
            assert dead.code == -signal.SIGKILL
            wreck = Wreck(kit, folder)
            found = wreck.finish("big", fails)
            wreck.check(found, status)
            attempts = {one: result.attempts for one, result in found.step_results.items()}
            assert attempts == {"a": 1, "b": 1, "c": 2, "ok": 0, "d": 1}
            if fails:
                assert found.step_results["b"].rollback_attempts == 2
        except BaseException as error:
            error.add_note(f"killed {moment} write {number} of {writes}: {folder}")
            raise

    at_once(*(lambda n=number, m=moment: at(n, m) for number in range(1, writes + 1) for moment in MOMENTS))


def test_killed_twice_at_every_write(wrecks):
    """Whoever goes on may be killed at any of its writes, too: the next one brings it to the same end."""
    child, _, _ = wrecks.run("counted", "drive", ["small"])
    writes = child.told["writes"]
    deaths = []

    def at(number):
        """Kill the resumer at each of its writes, until it ends before it is killed."""
        resumed = 0
        while True:
            resumed += 1
            for moment in MOMENTS:
                folder_name = f"{number}-{resumed}-{moment}"
                dead, kit, folder = wrecks.run(folder_name, "drive", ["small"], strike=[number, "after", "SIGKILL"])
                assert dead.code == -signal.SIGKILL
                second = wrecks.another(kit, folder, "resume", ["small"], strike=[resumed, moment, "SIGKILL"])
                second.wait()
                wreck = Wreck(kit, folder)
                if second.code == 0:
                    wreck.check(wreck.observer.get_execution_status(wreck.execution_id), ROLLED_BACK)
                    return
                assert second.code == -signal.SIGKILL, second.errors
                deaths.append((number, resumed, moment))
                wreck.check(wreck.finish("small"), ROLLED_BACK)

    at_once(*(lambda n=number: at(n) for number in range(1, writes + 1)), workers=6)
    assert {number for number, *_ in deaths} == set(range(1, writes)), "no resumer is needed after the last write"
    assert (1, writes, "before") in deaths
