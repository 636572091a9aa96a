"""Who carries out steps: objects with `execute`, `rollback` and `can_execute`, or plain functions."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from resilient.orchestrator.model import RecoveryContext, RecoveryStep, RecoveryStepType


class StepExecutor(ABC):
    """Carries out one type of step. Methods may be sync (they run in threads) or async (they run as tasks).

    An object need not derive from this; `execute` is all that it must have.
    """

    @abstractmethod
    def execute(self, step: RecoveryStep, context: RecoveryContext) -> Any:
        """Do it, and return what later steps or people want to know, as JSON-ready values; raise where it failed.

        It may be called again with the same `context.idempotency_key` after a crash.
        """

    def rollback(self, step: RecoveryStep, context: RecoveryContext) -> Any:
        """Undo it, where the step completed or by its `in_doubt`; also again after a crash, with the same key."""
        return None

    def can_execute(self, step_type: RecoveryStepType | str) -> bool:
        """Whether this object carries out steps of the type."""
        return True

    def problems(self, step: RecoveryStep) -> list[tuple[str, str]]:
        """What is wrong with a step, found out without doing anything: pairs of a parameter's name and a sentence.

        Asked when a plan is validated. A parameter with a `${...}` reference in it is not known yet.
        """
        return []


class Operation(NamedTuple):
    """One way to carry out a step: the function, and whether it is to run as a task."""

    call: Callable[[RecoveryStep, RecoveryContext], Any]
    is_async: bool


class Adapted(NamedTuple):
    """An executor in its one internal form."""

    execute: Operation
    rollback: Operation | None
    problems: Callable[[RecoveryStep], list[tuple[str, str]]]


def adapted(executor: Any, rollback: Any = None, *, step_type: str) -> Adapted:
    """The internal form of an object or function that was registered for a type; TypeError where it is neither."""
    execute = getattr(executor, "execute", None)
    if execute is None or isinstance(executor, type):
        if not callable(executor) or isinstance(executor, type):
            raise TypeError(
                f"executor={executor!r}: must be a function (step, context), or an object with execute(step, context)"
            )
        execute, undo, problems = executor, rollback, None
    else:
        undo = rollback or _own_rollback(executor)
        problems = getattr(executor, "problems", None)
        can = getattr(executor, "can_execute", None)
        if can is not None and not can(step_type):
            raise TypeError(f"executor={executor!r}: says that it cannot execute steps of type {step_type!r}")
    if problems is not None and not callable(problems):
        raise TypeError(f"problems={problems!r}: must be a function (step)")
    for what, function in (("execute", execute), ("rollback", undo)):
        _check_arguments(what, function)
    return Adapted(_operation(execute), None if undo is None else _operation(undo), problems or (lambda step: []))


def _own_rollback(executor: Any) -> Any:
    """The object's rollback, unless it is the one of the base class, which has nothing to undo."""
    if getattr(type(executor), "rollback", None) is StepExecutor.rollback:
        return None
    return getattr(executor, "rollback", None)


def _check_arguments(what: str, function: Any) -> None:
    if function is None:
        return
    if not callable(function):
        raise TypeError(f"{what}={function!r}: must be a function (step, context)")
    for one in (function, getattr(type(function), "__call__", None)):  # noqa: B004  # its kind is asked for
        if inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one):
            raise TypeError(f"{what}={function!r}: is a generator function, whose body nobody would run; use return")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise TypeError(f"{what}={function!r}: must take two arguments, (step, context), not {signature}") from None


def _operation(function: Any) -> Operation:
    call = getattr(type(function), "__call__", None)  # noqa: B004  # its kind is asked for
    return Operation(function, inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call))
