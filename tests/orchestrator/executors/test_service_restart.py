"""Steps of `service_restart`, with real processes."""

import os
import sys
import time

import pytest

from resilient.orchestrator import RecoveryContext
from resilient.orchestrator.executors import ActionFailedError, ActionStoppedError, ServiceRestartExecutor

from .helpers import alive, context, eventually, step

restart = ServiceRestartExecutor()


def run(code, **parameters):
    return restart.execute(step("service_restart", command=[sys.executable, "-c", code], **parameters), context())


def test_command():
    """The words of a command arrive as they are, no shell in between, and its last lines come back."""
    words = [sys.executable, "-c", "import sys; print(sys.argv[1:])", "a b", "$HOME; *"]
    found = restart.execute(step("service_restart", command=words), context())
    assert found == {"exit_code": 0, "output": "['a b', '$HOME; *']"}


def test_command_that_fails():
    """An exit code other than 0 fails the step, with the last lines of its errors."""
    with pytest.raises(ActionFailedError, match=r"ended with exit code 3: no such service$") as caught:
        run("import sys; print('no such service', file=sys.stderr); sys.exit(3)")
    assert caught.value.is_retryable()
    with pytest.raises(ActionFailedError, match="was ended by signal 9, and wrote no errors"):
        run("import os; os.kill(os.getpid(), 9)")


def test_command_that_is_missing(tmp_path):
    """A program or directory that is not there fails the step by name."""
    with pytest.raises(ActionFailedError, match="no-such-program cannot be started: No such file"):
        restart.execute(step("service_restart", command=["no-such-program"]), context())
    with pytest.raises(ActionFailedError, match=f"cannot be started in the directory {tmp_path}/gone"):
        run("", cwd=str(tmp_path / "gone"))


def test_environment():
    """What is added to the environment arrives, and is taken out of what the command wrote."""
    code = "import os, sys; print(os.environ['TOKEN'][::-1], os.environ['PATH'] != ''); sys.exit(os.environ['TOKEN'])"
    with pytest.raises(ActionFailedError) as caught:
        run(code, environment={"TOKEN": "hunter2", "LEVEL": 3})
    assert str(caught.value).endswith("ended with exit code 1: ***")
    assert run(code.partition(" sys.exit")[0], environment={"TOKEN": "hunter2"})["output"] == "2retnuh True"


def test_cwd(tmp_path):
    """The command runs in the directory that is named."""
    assert run("import os; print(os.getcwd())", cwd=tmp_path)["output"] == str(tmp_path.resolve())


def test_much_output():
    """A command may write and be given as much as it likes: the last 2000 characters come back."""
    code = "import sys; assert sys.stdin.read() == ''; print('x' * 3_000_000); print('end')"
    output = run(code)["output"]
    assert output.startswith("...x")
    assert output.endswith("x\nend")
    assert len(output) == 2003


def test_daemon(tmp_path):
    """A command may leave a daemon behind that keeps its output open: the step ends, and the daemon lives."""
    code = (
        "import subprocess, sys\n"
        "daemon = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(daemon.pid)"
    )
    began = time.monotonic()
    daemon = int(run(code)["output"])
    try:
        assert time.monotonic() - began < 30
        assert alive(daemon)
    finally:
        os.kill(daemon, 9)


@pytest.mark.parametrize("deaf", [True, False])
def test_stopped(tmp_path, deaf):
    """When the step is stopped, the command and its children end at once, also those that ignore SIGTERM."""
    pids = tmp_path / "pids"
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if deaf else ""
    child = f"{ignore}import os, time; open({str(pids)!r}, 'a').write(str(os.getpid()) + chr(10)); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]); {child}"
    began = []

    def stopped():
        if not began and pids.exists() and len(pids.read_text().splitlines()) == 2:
            began.append(time.monotonic())
        return bool(began)

    with pytest.raises(ActionStoppedError):
        restart.execute(step("service_restart", command=[sys.executable, "-c", code]), context(stopped=stopped))
    assert time.monotonic() - began[0] < 0.3
    eventually(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()), 0.2)


def test_stopped_before():
    """A step that is stopped already starts nothing."""
    with pytest.raises(ActionStoppedError):
        restart.execute(step("service_restart", command=["no-such-program"]), context(stopped=lambda: True))


def test_rollback(tmp_path):
    """Rollback runs its own command, and nothing where there is none."""
    mark = tmp_path / "mark"
    undo = [sys.executable, "-c", f"open({str(mark)!r}, 'w').write('undone')"]
    plain = step("service_restart", command=["no-such-program"])
    assert restart.rollback(plain, context(undoing=True)) is None
    both = step("service_restart", command=["no-such-program"], rollback_command=undo)
    assert restart.rollback(both, context(undoing=True)) == {"exit_code": 0, "output": ""}
    assert mark.read_text() == "undone"


def test_unit(tmp_path, monkeypatch):
    """A unit is restarted by systemctl, its name after `--`."""
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\nprintf '%s|' \"$@\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = restart.execute(step("service_restart", unit="web@1.service"), context())
    assert found["output"] == "restart|--|web@1.service|"


def test_parameters_in_a_command_are_not_shown():
    """What a command writes of the execution's parameters is taken out, as the plan's file does not show them."""
    told = RecoveryContext("run", "plan", step_id="work", parameters={"password": "hunter2zz"})
    words = [sys.executable, "-c", "import sys; sys.exit('no: ' + sys.argv[1])", "hunter2zz"]
    with pytest.raises(ActionFailedError) as caught:
        ServiceRestartExecutor().execute(step("service_restart", command=words), told)
    assert "no: ***" in str(caught.value)
    assert "hunter2zz" not in str(caught.value)
