"""What the settings of plans and steps must be, and how a problem with one is told."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from resilient._checks import LONGEST
from resilient.orchestrator.model import RetryPolicy
from resilient.orchestrator.references import Where, place
from resilient.retry.backoff import JITTERS, check_jitter
from resilient.strategies.problems import kind_of

ON_FAILURE = ("rollback", "stop", "continue")
IN_DOUBT = ("rerun", "rollback", "ask")
#: A step's id is part of idempotency keys (`execution:step`) and of references (`${steps.id.output}`).
STEP_ID = "[A-Za-z0-9_][A-Za-z0-9_-]*"
PLAN_ID = "[A-Za-z0-9_][A-Za-z0-9_.-]*"

#: Stands for what a file should have and has not.
MISSING = object()

_LONGEST_TEXT = 60


class Problem(NamedTuple):
    """One thing that is wrong, and where. `cycle` is the way round where that is all, or what it leads to.

    `executor`: only because nothing is registered.
    """

    where: Where
    text: str
    cycle: tuple[str, ...] = ()
    executor: bool = False

    def __str__(self) -> str:
        return f"{place(self.where)}: {self.text}" if self.where else self.text


class Rule(NamedTuple):
    """What a setting must be. Of several rules for one setting the first that is broken is told."""

    name: str
    fits: Callable[[Any], object]
    expected: str


def shown(value: Any) -> str:
    """A value of a plain setting in few characters; lists, tables and objects by their kind alone."""
    if value is MISSING:
        return "nothing"
    if isinstance(value, str):
        short = value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}..."
        return json.dumps(str(short), ensure_ascii=False)
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 10**30):
        return repr(value)
    return kind(value)


def kind(value: Any) -> str:
    """What sort of value it is, for those that may be secrets."""
    if value is None or value is MISSING:
        return shown(value)
    for types, text in ((str, "text"), (Mapping, "a table"), ((list, tuple), "a list")):
        if isinstance(value, types):
            return text
    return kind_of(value)


def in_seconds(value: Any) -> Any:
    """A duration as seconds, and any other value as it is."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def _at_least(least: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and value >= least


def is_limit(value: Any) -> bool:
    """Whether a value can be a time limit, or none."""
    return value is None or (_at_least(0)(in_seconds(value)) and in_seconds(value) != 0)


def _optional_delay(value: Any) -> bool:
    return value is None or _at_least(0)(in_seconds(value))


def _bounded(value: Any) -> bool:
    seconds = in_seconds(value)
    return seconds is None or seconds <= LONGEST


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= sys.maxsize


def _among(*allowed: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in allowed


def _matching(pattern: str) -> Callable[[Any], object]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _jitter(value: Any) -> bool:
    try:
        check_jitter(value)
    except Exception:
        return False
    return True


_LIMIT = (
    Rule("timeout", is_limit, "a positive number"),
    Rule("timeout", _bounded, f"at most {LONGEST:.0f} seconds"),
)
PLAN = (
    Rule("id", _matching(PLAN_ID), "letters, digits, -, _ and ., beginning with none of - and ."),
    Rule("name", _text, "text"),
    Rule("description", _text, "text"),
    *_LIMIT,
    Rule("max_parallel", _whole, "a whole number of at least 1"),
)
STEP = (
    Rule("id", _matching(STEP_ID), "letters, digits, - and _, beginning with no -"),
    Rule("name", _text, "text"),
    Rule("step_type", lambda value: isinstance(value, str) and value.strip(), "the name of a type of step"),
    *_LIMIT,
    Rule("on_failure", _among(*ON_FAILURE), f"one of {', '.join(ON_FAILURE)}"),
    Rule("critical", lambda value: isinstance(value, bool), "true or false"),
    Rule("in_doubt", _among(*IN_DOUBT), f"one of {', '.join(IN_DOUBT)}"),
)
_RETRY = (
    Rule("max_attempts", _whole, "a whole number of at least 1"),
    Rule("base_delay", lambda value: value is not None and _optional_delay(value), "a number of seconds, 0 or more"),
    Rule("base_delay", _bounded, f"at most {LONGEST:.0f} seconds"),
    Rule("backoff_multiplier", _at_least(1), "a number of at least 1"),
    Rule("backoff_multiplier", lambda value: value <= sys.float_info.max, "a finite number"),
    Rule("max_delay", _optional_delay, "a number of seconds, 0 or more"),
    Rule("max_delay", _bounded, f"at most {LONGEST:.0f} seconds"),
    Rule("jitter", _jitter, f"true, false, a share from 0 to 1, or one of {', '.join(JITTERS)}"),
)


def broken(rules: Iterable[Rule], owner: Any, where: Where) -> Iterator[Problem]:
    """The settings of an owner that break their rules."""
    told = set()
    for rule in rules:
        value = getattr(owner, rule.name)
        if rule.name not in told and not rule.fits(value):
            told.add(rule.name)
            yield Problem((*where, rule.name), f"expected {rule.expected}, got {shown(value)}")


def broken_retry(policy: Any, where: Where) -> Iterator[Problem]:
    """What is wrong with a retry policy."""
    if not isinstance(policy, RetryPolicy):
        yield Problem(where, f"expected a retry policy (a RetryPolicy, in a file a table), got {shown(policy)}")
        return
    said = list(broken(_RETRY, policy, where))
    yield from said
    longest = policy.max_delay
    if not said and longest is not None and in_seconds(longest) < in_seconds(policy.base_delay):
        text = f"expected at least base_delay ({policy.base_delay!r}), got {longest!r}"
        yield Problem((*where, "max_delay"), text)
