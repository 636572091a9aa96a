"""A file of strategies applied to the policies that are at work, all of it or nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from resilient._registry import registry
from resilient.errors import ConfigurationError
from resilient.events import HUB, ConfigurationChanged
from resilient.strategies.building import KINDS, live_policies
from resilient.strategies.files import load_for
from resilient.strategies.filters import resolved
from resilient.strategies.plan import Plan, apply, settle
from resilient.strategies.problems import listed, shown
from resilient.strategies.tables import Table

Options = Mapping[str, Any]


class Change(NamedTuple):
    """What has changed on one live policy; a degradation's thresholds are those of its manager."""

    kind: str
    name: str
    changes: Options

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}: {', '.join(f'{key}={shown(value)}' for key, value in self.changes.items())}"


class Report(NamedTuple):
    """What `configure_from` has done.

    changed: the policies that were changed, and how. unmatched: strategies without a live policy of that name.
    left: paths in the file that no live policy can follow, such as a pattern that is switched off.
    """

    changed: tuple[Change, ...]
    unmatched: tuple[str, ...]
    left: tuple[str, ...] = ()

    def __str__(self) -> str:
        count = "1 policy" if len(self.changed) == 1 else f"{len(self.changed)} policies"
        lines = [f"{count} changed", *map(str, self.changed)]
        if self.unmatched:
            lines.append(f"no live policy is named {', '.join(map(repr, self.unmatched))}")
        if self.left:
            lines.append(f"not for live policies: {', '.join(self.left)}")
        return "\n  ".join(lines)


def configure_from(path: str | os.PathLike[str]) -> Report:
    """Apply the options written in a file to the live policies of the same names; their state stays.

    A strategy's name is that of the policies. What the file does not say stays as it is, also where it names a preset:
    that is what a new strategy starts from. So options have to agree with those of the live policies, not with the
    defaults. `timeout.total` becomes the timeout's `limit`, the thresholds of `degradation` go to the manager of the
    degradation. What cannot follow (a pattern switched off, limits of clients, a cache, a pattern without a live
    policy) is listed in the report. Subscribers are told when all is applied, of each policy once.

    Raises ConfigurationError, with every problem, for a file that is not in order or does not fit what is live; then,
    and when applying fails or is interrupted midway, everything is as it was, and nobody is told of anything.
    """
    strategies = load_for(path, _is_live)
    # Before the lock is taken: names of exceptions import their modules.
    written = {name: _with_types(table) for name, table in strategies.written.items()}
    with registry.lock:  # nobody else changes anything between the plan and its end
        plan = Plan(written)
        if plan.problems:
            raise ConfigurationError(listed(str(path), [one.under(*strategies.prefix) for one in plan.problems]))
        apply(plan.steps)
    settle(plan.steps)
    changed = _changes(plan)
    if HUB.wants(ConfigurationChanged):
        for one in changed:
            HUB.publish(ConfigurationChanged(one.name, one.kind, dict(one.changes)))
    return Report(changed, tuple(plan.unmatched), tuple(plan.left))


def _is_live(name: str) -> bool:
    return any(name in shelf for shelf in live_policies().values())


def _with_types(table: Options) -> Options:
    return {
        section: {key: resolved(key, value) for key, value in options.items()}
        if section in KINDS and isinstance(options, Mapping)
        else options
        for section, options in table.items()
    }


def _changes(plan: Plan) -> tuple[Change, ...]:
    changes: dict[tuple[str, str], dict[str, Any]] = {}
    for step in plan.steps:
        changes.setdefault((step.kind, step.name), {}).update(step.after)
    return tuple(Change(kind, name, Table(options)) for (kind, name), options in changes.items())
