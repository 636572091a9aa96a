"""The policies on the page: the table of all, and everything about one."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from resilient._registry import SHELVES
from resilient.drawing.markup import Markup, join, line, squeezed, tag
from resilient.web.board import Board, Row, Transition
from resilient.web.html import parts
from resilient.web.html.sparkline import sparkline
from resilient.web.options import textual

#: Policies on one page.
ON_A_PAGE = 100
_HEAD = ("Policy", "State", "Calls per second", "Not well", "In flight", "Last two minutes")


def found(rows: list[Row], wanted: str) -> list[Row]:
    """The rows whose name, kind or state has the words somebody looks for."""
    words = wanted.casefold().split()
    if not words:
        return rows
    return [row for row in rows if all(word in _searched(row) for word in words)]


def _searched(row: Row) -> str:
    words, *_ = parts.STATES.get(row.state, (row.state,))
    return f"{row.name} {row.kind} {parts.KINDS[row.kind]} {row.state} {words}".casefold()


def table(board: Board, rows: list[Row], base: str) -> Markup:
    """The table of these policies."""
    head = [tag("th", words, scope="col", class_="number" if 2 <= n <= 4 else None) for n, words in enumerate(_HEAD)]
    caption = tag("caption", "Policies, what is cause for concern first", class_="unseen")
    body = tag("tbody", *(_row(board, row, base) for row in rows))
    return tag("table", caption, tag("thead", tag("tr", *head)), body, class_="stacks")


def _row(board: Board, row: Row, base: str) -> Markup:
    rates = board.rates(row)
    bad = parts.share(rates.bad_share) if row.calls is not None else f"{parts.per_second(rates.bad_per_second)}/s"
    link = tag(
        "a", squeezed(line(row.name), 120), href=place(base, row.kind, row.name), id=parts.ident(row.kind, row.name)
    )
    drawing = sparkline(board.points(row), counts_calls=row.calls is not None)
    return tag(
        "tr",
        tag("th", link, " ", tag("span", parts.KINDS[row.kind], class_="soft small"), scope="row"),
        tag("td", parts.badge(row.state), class_="state"),
        tag("td", parts.per_second(rates.calls_per_second), class_="number", data_name="Calls/s"),
        tag("td", bad, class_="number", data_name="Not well"),
        tag("td", _flight(row), class_="number", data_name="In flight"),
        tag("td", drawing, class_="trend"),
    )


def _flight(row: Row) -> str:
    if row.in_flight is None:
        return parts.NOTHING
    policy = row.policy
    if row.kind != "bulkhead" or policy is None:
        return f"{row.in_flight:,}"
    return f"{row.in_flight:,} of {policy.config.max_concurrent:,}"


def place(base: str, kind: str, name: str) -> str:
    """Where everything about a policy is."""
    query = urlencode({"kind": kind, "name": name}, errors="surrogatepass")
    return f"{base}policy?{query}"


def find(rows: list[Row], kind: str, name: str) -> Row | None:
    """The policy of this kind and name, if there is one."""
    return next((row for row in rows if row.kind == kind and row.name == name), None)


def whole(board: Board, row: Row, policy: Any, base: str, csrf: str) -> Markup:
    """Everything about one policy."""
    described = policy.describe()
    options = described.pop("config")
    numbers = {key: value for key, value in described.items() if key not in ("kind", "name", "state")}
    rates = board.rates(row)
    numbers = {
        "calls_per_second": parts.per_second(rates.calls_per_second),
        "not_well": parts.share(rates.bad_share),
        **numbers,
    }
    changes = [one for one in reversed(board.transitions.copy()) if one.name == row.name][:20]
    drawing = sparkline(board.points(row), counts_calls=row.calls is not None)
    return join(
        tag("div", tag("h2", line(row.name)), parts.badge(row.state), class_="head"),
        tag("p", f"{parts.KINDS[row.kind]}, in the snapshot under {SHELVES[row.kind]}.", class_="soft small"),
        tag("section", tag("h3", "Last two minutes"), drawing, class_="card wide"),
        tag("section", tag("h3", "Numbers"), parts.pairs(numbers), class_="card"),
        _forms(row, policy, base, csrf) if csrf else None,
        tag("section", tag("h3", "Options"), parts.pairs(options), class_="card"),
        transitions(changes, base) if row.kind == "circuit_breaker" else None,
    )


def _forms(row: Row, policy: Any, base: str, csrf: str) -> Markup:
    # Encoded, as browsers would change line breaks, and the page has no characters that turn the text round.
    hidden = {"kind": row.kind, "named": quote(row.name, safe="", errors="surrogatepass")}
    values = textual(policy)
    chosen = tag("select", *(tag("option", f"{name} ({value})", value=name) for name, value in values.items()),
                 name="option", id="option")  # fmt: skip
    change = tag(
        "div",
        tag("div", tag("label", "Option and its present value", for_="option"), chosen),
        parts.field("New value", "value", "value"),
        tag("button", "Change", id="change"),
        class_="row",
    )
    configure = parts.form(base, "configure", csrf, hidden, change) if values else None
    if row.kind != "circuit_breaker":
        return tag("section", tag("h3", "Act"), configure, class_="card")
    isolate = parts.form(base, "isolate", csrf, hidden, tag("button", "Isolate", id="isolate", class_="danger"))
    reset = parts.form(base, "reset", csrf, hidden, tag("button", "Reset", id="reset"))
    note = tag(
        "p", "Isolate lets no call through until Reset, which closes the circuit and forgets.", class_="small soft"
    )
    return tag("section", tag("h3", "Act"), tag("div", isolate, reset, class_="row"), note, configure, class_="card")


def transitions(changes: list[Transition], base: str) -> Markup:
    """The latest changes of breakers' states."""
    if not changes:
        body: Markup = tag("p", "None since this page began to listen.", class_="soft")
    else:
        body = parts.listed(_transition(one, base) for one in changes)
    return tag("section", tag("h2", "Latest changes"), body, class_="card")


def _transition(one: Transition, base: str) -> Markup:
    name = tag("a", squeezed(line(one.name), 120), href=place(base, "circuit_breaker", one.name))
    return tag("li", parts.moment(one.time), " ", name, " ", parts.badge(one.old), " to ", parts.badge(one.new), " ",
               tag("span", line(one.reason), class_="soft"))  # fmt: skip
