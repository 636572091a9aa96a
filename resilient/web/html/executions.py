"""Recoveries and degradation managers on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilient.drawing.markup import Markup, join, line, tag
from resilient.web.html import parts

_ENDED = {"completed", "failed", "cancelled", "rolled_back", "rollback_failed"}


def section(executions: list[dict[str, Any]], problem: str, base: str, csrf: str) -> Markup:
    """The executions with their steps, and what can be decided about them."""
    wrong = tag("p", f"The journal could not be read: {line(problem, 300)}", class_="card wrong") if problem else None
    none = None if executions else tag("p", "No recovery has been carried out.", class_="soft")
    runs = [_run(one, base, csrf) for one in sorted(executions, key=lambda one: not one["waiting_for"])]
    return tag("section", tag("h2", "Recoveries"), wrong, none, *runs, class_="card")


def _run(one: Mapping[str, Any], base: str, csrf: str) -> Markup:
    ended = one["status"] in _ENDED
    key = parts.ident("execution", one["execution_id"])
    head = tag("div", tag("h3", line(one["plan_name"], 200)), parts.badge(one["status"]), class_="head")
    told = [("Execution", line(one["execution_id"])), ("Began", parts.moment(one["started_at"]))]
    if ended:
        told.append(("Ended", parts.moment(one["completed_at"])))
    if one.get("trigger"):
        told.append(("Started by the opening of", line(one["trigger"])))
    about = tag("p", *(item for name, value in told for item in (f"{name} ", value, ". ")), class_="soft small")
    words = f"{len(one['steps'])} steps" if len(one["steps"]) != 1 else "1 step"
    steps = tag("ol", *(_step(one, step, base, csrf) for step in one["steps"]), class_="steps")
    inner = tag("details", tag("summary", words, id=f"{key}s"), steps, id=key, open=None if ended else "open")
    wrong = tag("p", line(one["error_message"], 200)) if one.get("error_message") else None
    return tag("div", head, about, wrong, inner, None if ended or not csrf else _cancel(one, base, csrf), class_="run")


def _step(one: Mapping[str, Any], step: Mapping[str, Any], base: str, csrf: str) -> Markup:
    tries = f" {step['attempts']} attempts" if step["attempts"] > 1 else ""
    doubt = " Nobody knows whether it happened." if step.get("in_doubt") else ""
    wrong = tag("div", line(step["error_message"], 500), class_="small") if step.get("error_message") else None
    back = step.get("rollback_error")
    not_undone = tag("div", f"Could not be undone: {line(back, 500)}", class_="small") if back else None
    waits = step["status"] == "waiting_approval"
    if waits and not csrf:
        doubt += " Sign in to approve it here, or use resilient plan approve."
    asked = _approve(one, step, base, csrf) if waits and csrf else None
    return tag("li", line(step["name"], 200), " ", parts.badge(step["status"]),
               tag("span", tries, doubt, class_="soft small"), wrong, not_undone, asked)  # fmt: skip


def _approve(one: Mapping[str, Any], step: Mapping[str, Any], base: str, csrf: str) -> Markup:
    key = parts.ident("approve", one["execution_id"], step["id"])
    fields = tag(
        "div",
        parts.field("Your name", "by", f"{key}b", required="required"),
        parts.field("Note", "note", f"{key}n"),
        tag("button", "Approve", tag("span", f" {line(step['name'], 100)}", class_="unseen"), id=key),
        class_="row",
    )
    return parts.form(base, "approve", csrf, {"execution": one["execution_id"], "step": step["id"]}, fields)


def _cancel(one: Mapping[str, Any], base: str, csrf: str) -> Markup:
    key = parts.ident("cancel", one["execution_id"])
    fields = tag(
        "div",
        parts.field("Your name", "by", f"{key}b"),
        parts.field("Reason", "reason", f"{key}r"),
        tag("button", "Cancel and undo", id=f"{key}x", class_="danger"),
        class_="row",
    )
    form = parts.form(base, "cancel", csrf, {"execution": one["execution_id"]}, fields)
    return tag("details", tag("summary", "Cancel this recovery", id=f"{key}s"), form, id=key)


def degradations(managers: Mapping[str, Any]) -> Markup | None:
    """The managers with their modes, and the services that they spare."""
    if not managers:
        return None
    return tag("section", tag("h2", "Degradation"), *(_manager(*pair) for pair in managers.items()), class_="card")


def _manager(name: str, one: Mapping[str, Any]) -> Markup:
    services: Mapping[str, Mapping[str, Any]] = one["services"]
    spared = [service for service, health in services.items() if health["degraded"]]
    mode = "degraded" if one["mode"] == "full" else one["mode"]
    forced = " Held by hand." if one["forced"] else ""
    words = f"Spared: {', '.join(spared[:20])}." if spared else f"None of {len(services)} services is spared."
    more = f" And {len(spared) - 20} more." if len(spared) > 20 else ""
    head = tag("div", tag("h3", line(name, 200)), parts.badge(mode), class_="head")
    return tag("div", join(head, tag("p", line(words), more, forced, class_="soft small")), class_="run")
