"""What an operator may do: isolate and reset breakers, configure policies, approve steps and cancel executions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from resilient._registry import SHELVES, Registry
from resilient.errors import ConfigurationError, ResilienceError
from resilient.events import log_note
from resilient.web.messages import LOGGER, Refused
from resilient.web.options import parsed

#: Fields of a form that are no options.
NO_OPTIONS = frozenset({"kind", "name", "named", "by", "csrf", "option", "value"})


class Order(NamedTuple):
    """An action somebody asks for: the fields of the form, from which address, and signed in how."""

    action: str
    fields: Mapping[str, str]
    peer: str
    via: str


class Done(NamedTuple):
    """What was done, in words; and to what."""

    text: str
    kind: str
    name: str
    options: tuple[str, ...] = ()


class Actions:
    """Carries orders out, and writes each into the log."""

    def __init__(self, registry: Registry, orchestrator: Any) -> None:
        self._registry = registry
        self._orchestrator = orchestrator

    def carry_out(self, order: Order) -> Done:
        """Do it. Raises Refused with the reason where that cannot be."""
        act = ACTIONS[order.action]
        try:
            done = act(self, named(order.fields))
        except Refused:
            raise
        except LookupError as error:
            raise Refused(404, _text(error)) from None
        except (ConfigurationError, TypeError, ValueError) as error:
            raise Refused(400, _text(error)) from None
        except ResilienceError as error:
            raise Refused(409, _text(error)) from None
        _log(logging.INFO, "web.action", order, "%s: %s", order.action, done.text, done=done)
        return done

    def refuse(self, order: Order, refused: Refused) -> None:
        """Write into the log that it was not done, and why."""
        # What is wrong with the value of an option cannot be said without the value.
        secret = order.action == "configure" and refused.status == 400
        why = f"{refused.status}, the answer says why" if secret else f"{refused.status}, {refused.text}"
        _log(logging.WARNING, "web.action_refused", order, "%s refused: %s", order.action, why, status=refused.status)

    def _isolate(self, fields: Mapping[str, str]) -> Done:
        name = self._breaker(fields, "isolated")
        self._registry.circuit_breakers[name].isolate()
        return Done(f"{name} lets no call through until it is reset", "circuit_breaker", name)

    def _reset(self, fields: Mapping[str, str]) -> Done:
        name = self._breaker(fields, "reset")
        self._registry.circuit_breakers[name].reset()
        return Done(f"{name} is closed, and begins anew", "circuit_breaker", name)

    def _breaker(self, fields: Mapping[str, str], what: str) -> str:
        kind = _kind(fields)
        if kind != "circuit_breaker":
            raise Refused(400, f"kind={kind!r}: only a circuit_breaker can be {what}")
        return _needed(fields, "name")

    def _configure(self, fields: Mapping[str, str]) -> Done:
        kind, name = _kind(fields), _needed(fields, "name")
        shelf: Mapping[str, Any] = getattr(self._registry, SHELVES[kind])
        policy = shelf[name]
        given = {key: value for key, value in fields.items() if key not in NO_OPTIONS}
        if fields.get("option"):
            given[fields["option"]] = fields.get("value", "")
        if not given:
            raise Refused(400, "no option is given; send one field for each, such as failure_threshold=10")
        changes = {option: parsed(policy, option, text) for option, text in given.items()}
        self._registry.configure(kind, name, **changes)
        return Done(f"{kind} {name}: changed {', '.join(changes)}", kind, name, tuple(changes))

    def _approve(self, fields: Mapping[str, str]) -> Done:
        execution, step = _needed(fields, "execution"), _needed(fields, "step")
        by = _needed(fields, "by")
        self._recovery().approve(execution, step, by=by, note=fields.get("note", ""))
        return Done(f"{execution}: step {step} is approved", "execution", execution)

    def _cancel(self, fields: Mapping[str, str]) -> Done:
        execution, by = _needed(fields, "execution"), fields.get("by", "").strip() or "the status page"
        if not self._recovery().cancel_execution(execution, fields.get("reason", ""), by=by):
            raise Refused(409, f"execution {execution} had ended already")
        return Done(f"{execution} is to be cancelled", "execution", execution)

    def _recovery(self) -> Any:
        if self._orchestrator is None:
            raise Refused(400, "this status app has no orchestrator; give status_app orchestrator=")
        return self._orchestrator


ACTIONS: dict[str, Callable[[Actions, Mapping[str, str]], Done]] = {
    "isolate": Actions._isolate,
    "reset": Actions._reset,
    "configure": Actions._configure,
    "approve": Actions._approve,
    "cancel": Actions._cancel,
}


def named(fields: Mapping[str, str]) -> Mapping[str, str]:
    """The fields with `name`, where the page's own form has sent it encoded, in `named`."""
    if "named" not in fields:
        return fields
    return {**fields, "name": unquote(fields["named"], errors="surrogatepass")}


def _needed(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name, "")
    if not value.strip():
        raise Refused(400, f"{name}: is missing; send it as a field of the form")
    return value


def _kind(fields: Mapping[str, str]) -> str:
    kind = _needed(fields, "kind")
    if kind not in SHELVES:
        raise Refused(400, f"kind={kind!r}: must be one of {', '.join(SHELVES)}")
    return kind


def _text(error: Exception) -> str:
    """What an error says; a KeyError would say it in quotes."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _log(
    level: int, event: str, order: Order, text: str, *values: object, done: Done | None = None, **more: object
) -> None:
    kind = order.fields.get("kind") or "web" if done is None else done.kind
    name = (
        order.fields.get("name") or order.fields.get("named") or order.fields.get("execution")
        if done is None
        else done.name
    )
    more |= {"action": order.action, "peer": order.peer, "by": order.fields.get("by") or None, "via": order.via}
    if done is not None and done.options:
        more["options"] = done.options
    log: Any = log_note
    log(LOGGER, level, event, text, *values, kind=kind, policy=name, limited=False, **more)
