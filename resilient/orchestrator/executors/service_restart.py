"""The executor of `service_restart` steps: runs a command, or has systemd restart a unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from resilient.orchestrator.executors import commands
from resilient.orchestrator.executors.parameters import Parameters, ShippedExecutor, kind_of
from resilient.orchestrator.model import RecoveryContext, RecoveryStep

_UNIT = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,254}")


class ServiceRestart(NamedTuple):
    """The command word by word, that of the rollback (empty: none), what is added to the environment, and where."""

    command: list[str]
    rollback_command: list[str]
    environment: Mapping[str, str]
    cwd: str | None


class ServiceRestartExecutor(ShippedExecutor[ServiceRestart]):
    """Runs a command, from a list of words and never through a shell, or `systemctl restart -- UNIT`.

    A restart has nothing to undo: its rollback runs `rollback_command`, or does nothing where there is none.
    Output: `exit_code`, and as `output` the last lines that the command wrote.
    """

    allowed = ("command", "unit", "rollback_command", "environment", "cwd")

    def read(self, given: Parameters) -> ServiceRestart:
        """The settings in the parameters."""
        kind = given.one_of("command", "unit")
        command = given.words("command", '["/etc/init.d/web", "restart"]')
        if kind == "unit":
            command = ["systemctl", "restart", "--", self._unit(given)]
        return ServiceRestart(
            command,
            given.words("rollback_command", '["/etc/init.d/web", "stop"]'),
            self._environment(given),
            given.path("cwd"),
        )

    def _unit(self, given: Parameters) -> str:
        unit = given.text("unit", "the name of a systemd unit such as web.service", "")
        if unit and not _UNIT.fullmatch(unit):
            given.note("unit", "the name of a systemd unit such as web.service", "a text with other characters")
        return str(unit)

    def _environment(self, given: Parameters) -> dict[str, str]:
        table = given.table("environment", "a table of texts")
        found = {}
        for name, value in table.items():
            number = isinstance(value, int) and not isinstance(value, bool)
            if "=" in str(name) or "\0" in str(name):
                given.note(f"environment.{name}", "a name without =", "one with it")
            elif number or (isinstance(value, str) and "\0" not in value):
                found[str(name)] = str(value)
            else:
                given.note(f"environment.{name}", "a text", kind_of(value))
        return found

    def execute(self, step: RecoveryStep, context: RecoveryContext) -> dict[str, Any]:
        """Run the command; ActionFailedError where it cannot be started or its exit code is not 0."""
        wanted = self.settings(step)
        return self._run(wanted.command, wanted, context)

    def rollback(self, step: RecoveryStep, context: RecoveryContext) -> dict[str, Any] | None:
        """Run the command for it, if there is one."""
        wanted = self.settings(step)
        return self._run(wanted.rollback_command, wanted, context) if wanted.rollback_command else None

    def _run(self, words: list[str], wanted: ServiceRestart, context: RecoveryContext) -> dict[str, Any]:
        ended = commands.succeeded(
            words,
            context,
            environment=wanted.environment,
            cwd=wanted.cwd,
            hidden=(*wanted.environment.values(), *_given(words, context)),
        )
        return {"exit_code": ended.code, "output": ended.output}


def _given(words: list[str], context: RecoveryContext) -> list[str]:
    """What of the execution's parameters is in a command: the plan's file does not show it, and it may be secret."""
    texts = [one for one in context.parameters.values() if isinstance(one, str)]
    return [one for one in texts if any(one in word for word in words)]
