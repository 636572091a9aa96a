"""A file of strategies applied to the policies that are at work, all of it or nothing."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from resilient._registry import registry
from resilient.degradation.manager import DegradationManager
from resilient.errors import ConfigurationError
from resilient.strategies.building import KINDS, live_policies
from resilient.strategies.files import Strategies, load
from resilient.strategies.filters import resolved
from resilient.strategies.options import differing
from resilient.strategies.problems import Problem, dotted, listed, shown
from resilient.strategies.validation import ANSWERS, HEALTH

_log = logging.getLogger("resilient.registry")

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


class _Step(NamedTuple):
    """One change that is possible, and how to make it and to take it back."""

    kind: str
    name: str
    before: Options
    after: Options
    apply: Callable[..., object]


def configure_from(path: str | os.PathLike[str]) -> Report:
    """Apply the options written in a file to the live policies of the same names; their state stays.

    A strategy's name is that of the policies. What the file does not say stays as it is, also where it names a preset:
    that is what a new strategy starts from. `timeout.total` becomes the timeout's `limit`, the thresholds of
    `degradation` go to the manager of the degradation. What cannot follow (a pattern switched off, limits of clients,
    a cache, a pattern without a live policy) is listed in the report.

    Raises ConfigurationError, with every problem, for a file that is not in order or does not fit what is live; then,
    and when applying fails midway, everything is as it was.
    """
    strategies = load(path)
    plan = _Plan(strategies)
    if plan.problems:
        raise ConfigurationError(listed(str(path), [one.under(*strategies.prefix) for one in plan.problems]))
    _apply(plan.steps)
    changes: dict[tuple[str, str], dict[str, Any]] = {}
    for step in plan.steps:
        changes.setdefault((step.kind, step.name), {}).update(step.after)
    changed = tuple(Change(kind, name, MappingProxyType(options)) for (kind, name), options in changes.items())
    return Report(changed, tuple(plan.unmatched), tuple(plan.left))


def _apply(steps: list[_Step]) -> None:
    done: list[_Step] = []
    try:
        for step in steps:
            step.apply(**step.after)
            done.append(step)
    except BaseException:
        for step in reversed(done):
            try:
                step.apply(**step.before)
            except Exception:
                _log.exception("%s %s: a change could not be taken back", step.kind, step.name)
        raise


class _Plan:
    """What a file means for what is live now."""

    def __init__(self, strategies: Strategies) -> None:
        self.steps: list[_Step] = []
        self.problems: list[Problem] = []
        self.unmatched: list[str] = []
        self.left: list[str] = []
        shelves = live_policies()
        for name, table in strategies.written.items():
            live = {kind: shelf[name] for kind, shelf in shelves.items() if name in shelf}
            if not live:
                self.unmatched.append(name)
                continue
            for section, options in table.items():
                if section in KINDS:
                    self._section(name, section, options, live.get(KINDS[section]))

    def _section(self, name: str, section: str, options: Any, policy: Any) -> None:
        if policy is None or options is False:
            self.left.append(dotted((name, section)))
            return
        written = {key: resolved(key, value) for key, value in options.items()}
        if section == "degradation":
            self._manager(name, {key: written[key] for key in HEALTH if key in written}, policy.config.manager)
        followed = {theirs: written[ours] for ours, theirs in _live_options(section, policy).items() if ours in written}
        kind = KINDS[section]
        self._step(kind, (name, section), followed, policy.config, partial(registry.configure, kind, name))
        known = {*_live_options(section, policy), *(HEALTH if section == "degradation" else ())}
        self.left += [dotted((name, section, key)) for key in written if key not in known]

    def _manager(self, name: str, health: Options, manager: Any) -> None:
        if isinstance(manager, DegradationManager):
            self._step("degrade", (name, "degradation"), health, manager.config, manager.configure)
        else:
            self.left += [dotted((name, "degradation", key)) for key in health]

    def _step(
        self, kind: str, path: tuple[str, str], options: Options, config: Any, apply: Callable[..., object]
    ) -> None:
        """Note a change of these options, if any differs from what is live."""
        try:
            changed = differing(config, dataclasses.replace(config, **options), options)
        except Exception as error:
            self.problems.append(Problem(path, f": does not fit what is live: {error}"))
            return
        if changed:
            before = {key: getattr(config, key) for key in changed}
            self.steps.append(_Step(kind, path[0], before, changed, apply))


def _live_options(section: str, policy: Any) -> dict[str, str]:
    """The options of a section that its live policy has, and what they are called there."""
    if section == "timeout":
        return {"total": "limit", "method": "method", "max_abandoned": "max_abandoned"}
    return {name: name for name in (ANSWERS if section == "degradation" else policy.config.names())}
