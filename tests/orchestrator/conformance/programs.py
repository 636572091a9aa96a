"""What other processes do here. They are forked from one that has imported everything, which takes a moment.

python -c "...; serve()"  reads jobs from its input, a line of JSON each, and tells when each began and ended.
"""

import json
import os
import select
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from resilient.orchestrator import PlanLockedError, RecoveryError, RecoveryOrchestrator

from .kits import LEASE, Struck, opened
from .plans import PLANS, Log, Workshop


def party(job):
    """An orchestrator as a job describes it, and its plan."""
    journal = Struck(opened(job["address"]), *job.get("strike", ()))
    orchestrator = RecoveryOrchestrator(journal, lease=job.get("lease", LEASE))
    Workshop(orchestrator, Log(job["log"]), job.get("strikes"), journal.strike)
    if job.get("plan"):
        name, *arguments = job["plan"]
        orchestrator.register_plan(PLANS[name](*arguments))
    return orchestrator, journal


def settled(orchestrator, execution_id):
    """Wait for the end; whatever waits for a person is approved, once by each process."""
    approved = set()
    while True:
        found = orchestrator.wait_for(execution_id, 0.01)
        if found.status.ended:
            return found
        for step_id in set(found.waiting_for) - approved:
            approved.add(step_id)
            with suppress(RecoveryError):  # it has been approved meanwhile
                orchestrator.approve(execution_id, step_id, by="Ann")


def drive(job):
    """Carry out a plan with an approval in it."""
    orchestrator, journal = party(job)
    found = settled(orchestrator, orchestrator.start_plan(job["plan"][0]))
    return {"status": found.status.name, "writes": journal.counted()}


def execute(job):
    """Carry out a plan, and tell what came out."""
    orchestrator, journal = party(job)
    while job.get("after") and not os.path.exists(job["after"]):
        time.sleep(0.001)
    try:
        told = {"id": orchestrator.execute_plan(job["plan"][0])}
    except RecoveryError as error:
        told = {"error": type(error).__name__, "id": error.execution_id}
        if isinstance(error, PlanLockedError):
            told |= {"holder": list(error.holder), "since": error.since.isoformat()}
    journal.counted()
    return told


def resume(job):
    """Take over what there is, again and again until everything has ended."""
    orchestrator, journal = party(job)
    while job.get("after") and not os.path.exists(job["after"]):
        time.sleep(0.001)
    taken = []
    while not all(one.status.ended for one in orchestrator.history()):
        taken += orchestrator.resume_pending()
        time.sleep(0.005)
    return {"taken": taken, "writes": journal.counted()}


PROGRAMS = {"drive": drive, "execute": execute, "resume": resume}


def run(job):
    """Be the child of a fork."""
    folder = Path(job["folder"])
    errors = os.open(folder / f"{job['number']}.err", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    nothing = os.open(os.devnull, os.O_RDWR)
    for target, file in ((0, nothing), (1, nothing), (2, errors)):
        os.dup2(file, target)
    code = 1
    try:
        told = PROGRAMS[job["program"]](job)
        (folder / f"{job['number']}.json").write_text(json.dumps(told))
        code = 0
    except BaseException:  # noqa: BLE001 - written down for the test
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def serve():
    """Fork a child for each job."""
    children, text = {}, b""
    while True:
        readable, _, _ = select.select([0], [], [], 0.003 if children else None)
        if readable:
            got = os.read(0, 65536)
            if not got:
                return
            *lines, text = (text + got).split(b"\n")
            for line in lines:
                job = json.loads(line)
                pid = os.fork()
                if not pid:
                    run(job)
                children[pid] = job["number"]
                tell("began", job["number"], pid)
        while children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            tell("ended", children.pop(pid), os.waitstatus_to_exitcode(status))


def tell(what, number, value):
    sys.stdout.write(f"{what} {number} {value}\n")
    sys.stdout.flush()
