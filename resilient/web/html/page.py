"""The documents: the list of all policies, everything about one, the form to sign in with, and what was refused."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlencode

from resilient.drawing.markup import Markup, join, line, tag
from resilient.web.board import Board, Row
from resilient.web.html import executions, parts, policies
from resilient.web.html.script import SCRIPT
from resilient.web.html.style import CSS
from resilient.web.messages import Refused, Request, Response
from resilient.web.picture import managers
from resilient.web.recoveries import Recoveries

#: Seconds after which a browser without scripts loads the page again.
RELOAD = 30
_DONE = {
    "isolate": "The breaker is isolated.",
    "reset": "The breaker is reset.",
    "configure": "The option is changed.",
    "approve": "The step is approved.",
    "cancel": "The recovery is to be cancelled.",
}
_LATEST = 15


class View(NamedTuple):
    """What a page is made from. `csrf` is the field for its forms, "" for who is not signed in."""

    board: Board
    recoveries: Recoveries
    request: Request
    may_act: bool
    csrf: str


def overview(view: View) -> Response:
    """The list of all policies, or the part of it that changes."""
    return _answer(view, "Resilience status", _all)


def one_policy(view: View) -> Response:
    """Everything about one policy, or the part of it that changes."""
    return _answer(view, line(view.request.asked("name"), 80) or "Policy", _one)


def _answer(view: View, title: str, inner: Callable[[View], Markup]) -> Response:
    part = inner(view)
    if view.request.asked("fragment"):
        return Response(200, part.encode("utf-8", "replace"), "text/html; charset=utf-8")
    done = _DONE.get(view.request.asked("done"))
    told = None if done is None else tag("p", done, class_="card told", role="status")
    content = join(_top(view), told, _search(view) if inner is _all else _back(view.request.base),
                   tag("div", part, id="live"), _operator(view))  # fmt: skip
    return document(view.request.base, title, content, live=True)


def _top(view: View) -> Markup:
    state = tag("p", "Reload for news", id="mode", class_="live small soft", role="status")
    return tag("header", tag("h1", "Resilience status"), state, class_="top")


def _back(base: str) -> Markup:
    return tag("p", tag("a", "All policies", href=base))


def _search(view: View) -> Markup:
    wanted = view.request.asked("q")
    searched = parts.entry(type="search", name="q", id="q", value=wanted, maxlength="200")
    clear = tag("a", "Show all", href=view.request.base) if wanted else None
    label = tag("label", "Find policies by name, kind or state", for_="q")
    row = tag("div", tag("div", label, searched, class_="grow"), tag("button", "Find"), clear, class_="row")
    return tag("form", row, method="get", action=view.request.base, role="search")


def _operator(view: View) -> Markup:
    if not view.may_act:
        return tag(
            "footer", tag("p", "This page only shows. Actions need a token, which the application has not given.")
        )
    if not view.csrf:
        words = tag("a", "Sign in with the token", href=f"{view.request.base}session")
        return tag("footer", tag("p", words, " to isolate, reset, configure, approve and cancel."))
    hidden = parts.entry(type="hidden", name="csrf", value=view.csrf)
    button = tag("button", "Sign out", class_="link")
    form = tag("form", hidden, "You are signed in, and may act. ", button, method="post",
               action=f"{view.request.base}session/end")  # fmt: skip
    return tag("footer", form)


# The parts that change


def _all(view: View) -> Markup:
    rows, base = view.board.rows(), view.request.base
    runs = view.recoveries.read()
    waiting = sum(bool(one["waiting_for"]) for one in runs)
    recoveries = None
    if view.recoveries.orchestrator is not None:
        recoveries = executions.section(runs, view.recoveries.problem, base, view.csrf)
    listed = _policies(view, rows)
    first, second = (recoveries, listed) if waiting else (listed, recoveries)
    latest = list(view.board.transitions.copy())[: -_LATEST - 1 : -1]
    changes = policies.transitions(latest, base)
    return join(_summary(rows, waiting), first, second, executions.degradations(managers()), changes, _stamp())


def _summary(rows: list[Row], waiting: int) -> Markup:
    counted = {state: sum(row.state == state for row in rows) for state in ("open", "isolated", "half_open")}
    others = sum(row.concern <= 2 for row in rows) - sum(counted.values())
    figures = {
        "Policies": len(rows),
        "Open": counted["open"],
        "Isolated": counted["isolated"],
        "Half-open": counted["half_open"],
        "Other concerns": others,
        "Waiting for approval": waiting,
    }
    drawn = (tag("div", tag("dt", name), tag("dd", f"{value:,}")) for name, value in figures.items())
    return join(tag("p", _verdict(rows, counted, waiting), class_="verdict"), tag("dl", *drawn, class_="figures"))


def _verdict(rows: list[Row], counted: dict[str, int], waiting: int) -> str:
    stopped = counted["open"] + counted["isolated"]
    said = []
    if stopped:
        said.append("1 circuit lets no calls through" if stopped == 1 else f"{stopped:,} circuits let no calls through")
    if waiting:
        said.append("1 recovery waits for approval" if waiting == 1 else f"{waiting} recoveries wait for approval")
    if said:
        return f"{', and '.join(said)}."
    return "All circuits let calls through." if rows else "No policy is registered yet."


def _policies(view: View, rows: list[Row]) -> Markup:
    wanted, base = view.request.asked("q"), view.request.base
    some = policies.found(rows, wanted)
    pages = max(1, -(-len(some) // policies.ON_A_PAGE))
    number = _page_number(view.request.asked("page"), pages)
    begin = (number - 1) * policies.ON_A_PAGE
    part = some[begin : begin + policies.ON_A_PAGE]
    shown = policies.table(view.board, part, base) if part else _empty(wanted)
    words = f"{begin + 1:,} to {begin + len(part):,} of {len(some):,}" if pages > 1 else ""
    head = tag("div", tag("h2", "Policies"), tag("span", words, class_="soft small"), class_="head")
    links = [(number - 1, "Previous page", number > 1), (number + 1, "Next page", number < pages)]
    around = [
        tag("a", text, href=f"{base}?{urlencode({'q': wanted, 'page': to}, errors='replace')}", id=f"page-{n}")
        for n, (to, text, there) in enumerate(links)
        if there
    ]
    nav = tag("nav", *around, class_="pages", aria_label="Pages of policies") if around else None
    return tag("section", head, shown, nav, class_="card")


def _page_number(asked: str, pages: int) -> int:
    known = asked.isascii() and asked.isdigit()
    return min(max(1, int(asked[:9])), pages) if known else 1


def _empty(wanted: str) -> Markup:
    if wanted:
        return tag("p", f"Nothing has “{line(wanted, 100)}” in its name, kind or state.", class_="soft")
    return tag("p", "Policies appear here as soon as they are made: decorate a function, and import its module.",
               class_="soft")  # fmt: skip


def _one(view: View) -> Markup:
    kind, name = view.request.asked("kind"), view.request.asked("name")
    row = policies.find(view.board.rows(), kind, name)
    if row is None and view.board.has(kind, name):
        view.board.outdate()  # it is younger than what was last looked at
        row = policies.find(view.board.rows(), kind, name)
    policy = None if row is None else row.policy
    if row is None or policy is None:
        raise Refused(404, f"there is no {line(kind, 40)} {line(name, 200)!r}; it may have been forgotten since")
    return join(policies.whole(view.board, row, policy, view.request.base, view.csrf), _stamp())


def _stamp() -> Markup:
    about = (
        " UTC. “Not well” are calls of the last minute that failed, were turned away, took too long, or got a fallback."
    )
    return tag("p", "As of ", parts.moment(datetime.now(UTC)), about, class_="soft small")


# Documents


def sign_in(request: Request, csrf: str, wrong: str, status: int) -> Response:
    """The form that asks for the token."""
    told = tag("p", f"Not signed in: {wrong}.", class_="card wrong", role="alert") if wrong else None
    hidden = parts.entry(type="hidden", name="csrf", value=csrf)
    field = parts.entry(
        type="password", name="token", id="token", autocomplete="current-password", required="required", autofocus=""
    )
    label = tag("label", "The token that the application gave to status_app", for_="token")
    row = tag("div", tag("div", label, field, class_="grow"), tag("button", "Sign in"), class_="row")
    form = tag("form", hidden, row, method="post", action=f"{request.base}session", class_="card")
    content = join(tag("h1", "Sign in"), told, form, _back(request.base))
    return document(request.base, "Sign in", content, status=status)


def refusal(request: Request, status: int, text: str, *, whole: bool = True) -> Response:
    """Why something was not done; only the inner part where that is all that was asked for."""
    told = tag("p", line(text, 1000), class_="card wrong", role="alert")
    if not whole:
        return Response(status, told.encode("utf-8", "replace"), "text/html; charset=utf-8")
    content = join(tag("h1", "Not done"), told, _back(request.base))
    return document(request.base, "Not done", content, status=status)


def document(base: str, title: str, content: Markup, *, live: bool = False, status: int = 200) -> Response:
    """A whole page, under a policy that lets nothing run and load but what is in it."""
    nonce = secrets.token_urlsafe(16)
    reload = tag("noscript", tag("meta", http_equiv="refresh", content=str(RELOAD))) if live else None
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        reload,
        tag("style", Markup(CSS), nonce=nonce),
    )
    skip = tag("a", "Skip to the content", href="#content", class_="skip")
    script = tag("script", Markup(SCRIPT), nonce=nonce) if live else None
    body = tag("body", skip, parts.shapes(), tag("main", content, class_="page", id="content", tabindex="-1"), script,
               data_base=base)  # fmt: skip
    text = f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"
    rules = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return Response(status, text.encode("utf-8", "replace"), "text/html; charset=utf-8", policy=rules)
