"""The service's process: started, killed, and started again at the same port."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType

from resilient.orchestrator import RecoveryContext, RecoveryOrchestrator, RecoveryPlan, RecoveryStep

HERE = Path(__file__).parent


class Service:
    """Runs server.py within a `with` block."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> int:
        """Start it; returns its process number."""
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, str(HERE / "server.py"), str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self._process.pid

    def kill(self) -> None:
        """End it without a warning."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()


def orchestrator_for(service: Service) -> RecoveryOrchestrator:
    """One that knows the plan "restart-service"."""
    orchestrator = RecoveryOrchestrator()

    @orchestrator.step("start_service")
    def start(step: RecoveryStep, context: RecoveryContext) -> int:
        return service.start()

    orchestrator.register_plan(RecoveryPlan.load(HERE / "restart.toml"))
    return orchestrator
