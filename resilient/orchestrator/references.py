"""References in the parameters of steps: `${parameters.host}`, `${steps.backup.output.path}`.

A value that is one whole reference becomes what it refers to; inside a longer text it becomes text. `$${` stands for
`${` itself. What a reference brings in is not looked through again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from resilient.orchestrator.errors import RecoveryError
from resilient.orchestrator.model import RecoveryPlan, StepResult, plain_parameters
from resilient.strategies.problems import dotted, kind_of

Where: TypeAlias = "tuple[str | int, ...]"

ROOTS = ("parameters", "steps")
#: What of a step's result may be referred to.
RESULT_FIELDS = ("output", "status", "attempts")
#: How many lists and tables may lie within each other.
DEEPEST = 64

_MARK = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_KEY = re.compile(r"[^\s.{}$]+")
_NOTHING = object()


class Reference(NamedTuple):
    """One `${root.key.key}`: where in the parameters it stands, what it asks for, and how it is written."""

    where: Where
    root: str
    keys: tuple[str, ...]
    text: str


class Fault(NamedTuple):
    """Something in the parameters that is meant as a reference and is none, or that cannot be looked through."""

    where: Where
    text: str


def place(where: Where) -> str:
    """A path as people write it: `steps[1].parameters.path`."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{dotted((part,))}"
    return text


def found(parameters: Any) -> list[Reference]:
    """All references in parameters, in their order; what is malformed is not among them."""
    return [one for one in scan(parameters) if isinstance(one, Reference)]


def scan(parameters: Any) -> list[Reference | Fault]:
    """The references in parameters and what is wrong with the others, in their order."""
    seen: list[Reference | Fault | None] = []
    for where, value in _texts(parameters, (), (), set()):
        if isinstance(value, Fault):
            seen.append(value)
        else:
            seen += (_reference(where, mark) for mark in _MARK.finditer(value))
    return [one for one in seen if one is not None]


def children(value: Any) -> list[tuple[Any, Any]] | None:
    """What lies in a list or table, by key; None for any other value.

    Mappings of other kinds are not looked into: it might be a cache, whose every reading counts.
    """
    if isinstance(value, dict):
        return list(dict.items(value))
    if isinstance(value, MappingProxyType):
        return list(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    return None


def key_part(key: Any) -> str | int:
    """A key as part of a path."""
    return key if isinstance(key, (str, int)) else kind_of(key)


def _texts(value: Any, where: Where, above: tuple[int, ...], seen: set[int]) -> Iterator[tuple[Where, str | Fault]]:
    """The texts in which there may be references; each list and table is looked through only once."""
    if isinstance(value, str):
        if "${" in value:
            yield where, value
        return
    if id(value) in above:
        yield where, Fault(where, "expected values, got a list or table that contains itself")
        return
    inside = children(value)
    if inside is None or id(value) in seen:
        return
    if len(above) >= DEEPEST:
        yield where, Fault(where, f"expected at most {DEEPEST} lists and tables within each other")
        return
    seen.add(id(value))
    for key, one in inside:
        yield from _texts(one, (*where, key_part(key)), (*above, id(value)), seen)


def _reference(where: Where, mark: re.Match[str]) -> Reference | Fault | None:
    """The reference at a mark; None for `$${`."""
    if mark[0] == "$${":
        return None
    if mark[1] is None:
        return Fault(where, 'unclosed "${"; close it with "}", or write "$${" for the characters themselves')
    root, *keys = mark[1].split(".")
    if root not in ROOTS:
        return Fault(where, f"{mark[0]}: expected ${{parameters.name}} or ${{steps.id.output}}, or $${{ for ${{ itself")
    if not keys or not all(map(_KEY.fullmatch, keys)):
        example = "${parameters.name}" if root == "parameters" else "${steps.id.output}"
        return Fault(where, f"{mark[0]}: expected names with dots between them, as in {example}")
    return Reference(where, root, tuple(keys), mark[0])


def resolved(
    parameters: Mapping[str, Any], given: Mapping[str, Any], step_results: Mapping[str, StepResult]
) -> dict[str, Any]:
    """The parameters with what their references stand for. Values without references stay the objects they are.

    `given` are the parameters of the execution. Raises RecoveryError with all references that lead nowhere.
    """
    filling = _Filling(given, step_results)
    done = {key: filling.filled(value, (key,)) for key, value in parameters.items()}
    if filling.missing:
        raise RecoveryError("; ".join(filling.missing))
    return done


class _Filling:
    """Puts values in the place of references, and collects those that lead nowhere."""

    def __init__(self, given: Mapping[str, Any], step_results: Mapping[str, StepResult]) -> None:
        self.missing: list[str] = []
        self._given = given
        self._results = step_results
        self._done: dict[int, Any] = {}

    def filled(self, value: Any, where: Where) -> Any:
        if isinstance(value, str):
            return self._text(value, where) if "${" in value else value
        inside = children(value)
        if inside is None:
            return value
        if id(value) not in self._done:
            self._done[id(value)] = value
            new = [(key, self.filled(one, (*where, key_part(key)))) for key, one in inside]
            if any(one is not old for (_, one), (_, old) in zip(new, inside, strict=True)):
                self._done[id(value)] = _rebuilt(value, new)
        return self._done[id(value)]

    def _text(self, text: str, where: Where) -> Any:
        whole = _MARK.fullmatch(text)
        if whole is not None:
            return self._value(whole, where)
        return _MARK.sub(lambda mark: _as_text(self._value(mark, where)), text)

    def _value(self, mark: re.Match[str], where: Where) -> Any:
        one = _reference(where, mark)
        if one is None:
            return "${"
        if isinstance(one, Fault):
            self.missing.append(f"parameters.{place(where)}: {one.text}")
            return None
        value, problem = self._looked_up(one)
        if problem:
            self.missing.append(f"parameters.{place(where)}: {one.text}: {problem}")
        return value

    def _looked_up(self, one: Reference) -> tuple[Any, str]:
        """What a reference stands for, or why it does for nothing."""
        if one.root == "parameters":
            value = _reached(self._given, one.keys)
            return (None, _not_given(one)) if value is _NOTHING else (value, "")
        step_id, *keys = one.keys
        result = self._results.get(step_id)
        if result is None:
            return None, f"step {step_id!r} has no result"
        value = _reached(_public(result), keys)
        return (
            (None, f"step {step_id!r} has no {'.'.join(keys) or 'name of a field'}")
            if value is _NOTHING
            else (value, "")
        )


def _public(result: StepResult) -> dict[str, Any]:
    return {"output": result.output, "status": result.status.value, "attempts": result.attempts}


def _reached(value: Any, keys: tuple[str, ...] | list[str]) -> Any:
    """What lies under these keys; _NOTHING where they lead nowhere."""
    if not keys:
        return _NOTHING
    for key in keys:
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, (list, tuple)) and re.fullmatch("[0-9]{1,9}", key) and int(key) < len(value):
            value = value[int(key)]
        else:
            return _NOTHING
    return value


def _rebuilt(value: Any, new: list[tuple[Any, Any]]) -> Any:
    if isinstance(value, (dict, MappingProxyType)):
        return dict(new)
    parts = [one for _, one in new]
    return tuple(parts) if isinstance(value, tuple) else parts


def _as_text(value: Any) -> str:
    """A value within a text: as JSON writes it, texts without quotes."""
    if isinstance(value, str):
        return str(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # an object of which there is no JSON
        return str(value)


def _not_given(one: Reference) -> str:
    return f"no parameter {'.'.join(one.keys)!r} was given"


def missing(plan: RecoveryPlan, given: Mapping[str, Any]) -> list[str]:
    """Sentences about every `${parameters.name}` of a plan that is not among the given parameters."""
    return [
        f"{place((group, number, 'parameters', *one.where))}: {one.text}: {_not_given(one)}"
        for group, steps in (("steps", plan.steps), ("rollback_steps", plan.rollback_steps))
        for number, step in enumerate(steps)
        for one in found(plain_parameters(step))
        if one.root == "parameters" and _reached(given, one.keys) is _NOTHING
    ]
