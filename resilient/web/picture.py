"""The whole as JSON: what the registry shows of its policies, with rates, transitions, managers and executions."""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

from resilient._registry import SHELVES
from resilient.clock import CLOCK
from resilient.policy import plain
from resilient.web.board import Board, Row, Transition
from resilient.web.messages import to_json
from resilient.web.recoveries import Recoveries

#: How old a snapshot may be, in seconds.
FRESH = 0.5


class Picture:
    """Makes the snapshot, and keeps it for a moment: one of thousands of policies takes its time."""

    def __init__(self, board: Board, recoveries: Recoveries) -> None:
        self._board = board
        self._recoveries = recoveries
        self._lock = threading.RLock()
        self._made = float("-inf")
        self._version = -1
        self._cost = 0.0
        self._json = b""

    def as_json(self) -> bytes:
        """The snapshot in JSON."""
        rows = self._board.rows()
        age = CLOCK.monotonic() - self._made
        if self._version != self._board.version or not 0 <= age < max(FRESH, 5 * self._cost):
            began, version = time.perf_counter(), self._board.version
            made = _as_json(self._snapshot(rows))
            with self._lock:
                self._json, self._made, self._version = made, CLOCK.monotonic(), version
                self._cost = time.perf_counter() - began
        return self._json

    def _snapshot(self, rows: list[Row]) -> dict[str, Any]:
        problem = self._recoveries.problem
        executions = self._recoveries.read()
        return {
            **self._board.registry.snapshot(),
            "degradation_managers": managers(),
            "executions": executions,
            "transitions": [as_dict(one) for one in reversed(self._board.transitions.copy())],
            "rates": self._rates(rows),
            "problems": [f"executions: {problem}"] if problem else [],
            "generated_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }

    def _rates(self, rows: list[Row]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {shelf: {} for shelf in SHELVES.values()}
        for row in rows:
            rates = self._board.rates(row)._asdict()
            rounded = {key: None if value is None else round(value, 4) for key, value in rates.items()}
            found[SHELVES[row.kind]][row.name] = {**rounded, "state": row.state}
        return found

    def after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.RLock()


def _as_json(snapshot: dict[str, Any]) -> bytes:
    """The same as `to_json`, but policy by policy: nothing else in the process runs while `json` writes one thing."""
    parts = []
    for key, value in snapshot.items():
        if isinstance(value, dict):
            inner = b",".join(b"%s:%s" % (to_json(name), to_json(one)) for name, one in value.items())
            parts.append(b"%s:{%s}" % (to_json(key), inner))
        else:
            parts.append(b"%s:%s" % (to_json(key), to_json(value)))
    return b"{%s}" % b",".join(parts)


def as_dict(one: Transition) -> dict[str, str]:
    """A transition in plain strings."""
    return {**one._asdict(), "time": one.time.isoformat(timespec="milliseconds")}


def managers() -> dict[str, Any]:
    """The degradation managers of the process by name; those that share a name get #2, #3, …"""
    # Not imported: without managers nobody has to wait for their module.
    module: Any = sys.modules.get("resilient.degradation.manager")
    found: dict[str, Any] = {}
    for manager in [] if module is None else sorted(module.managers(), key=lambda one: one.name):
        name, number = manager.name, 1
        while name in found:
            number += 1
            name = f"{manager.name}#{number}"
        found[name] = _described(manager)
    return found


def _described(manager: Any) -> dict[str, Any]:
    numbers = manager.get_metrics()
    services = {
        name: {key: plain(value) for key, value in health._asdict().items()}
        for name, health in numbers.services.items()
    }
    return {
        "mode": numbers.mode.value,
        "forced": numbers.forced,
        "mode_changes": numbers.mode_changes,
        "services": services,
    }
