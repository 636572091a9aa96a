"""The requests by which an operator signs in, and acts: each is looked at for who sends it before anything is done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from resilient._registry import SHELVES
from resilient.events import log_note
from resilient.web.access import Access, check_origin
from resilient.web.actions import ACTIONS, Actions, Done, Order
from resilient.web.html import page
from resilient.web.messages import LOGGER, Refused, Request, Response, as_json, see_other


class Operating:
    """Sign in, sign out, act. `acted` is called after each action."""

    def __init__(self, access: Access, actions: Actions, acted: Callable[[], object]) -> None:
        self._access = access
        self._actions = actions
        self._acted = acted

    def post(self, path: str) -> Callable[[Request], Response] | None:
        """Who answers to a POST to this path; None where nobody does."""
        if path == "/session/end":
            return self._sign_out
        action = path.removeprefix("/actions/")
        return (lambda request: self._act(request, action)) if action in ACTIONS and action != path else None

    def sign_in_page(self, request: Request, wrong: str = "", status: int = 200) -> Response:
        """The form that asks for the token."""
        if not self._access.acts:
            raise _read_only()
        field, cookie = self._access.guest(request)
        answer = page.sign_in(request, field, wrong, status)
        answer.cookies += [] if cookie is None else [cookie]
        return answer

    def session(self, request: Request) -> Response:
        """The form to sign in with, or what was written into it."""
        if request.method != "POST":
            return self.sign_in_page(request)
        if not self._access.acts:
            raise _read_only()
        check_origin(request)
        fields = request.form()
        self._access.check_guest(request, fields.get("csrf", ""))
        try:
            self._access.check_token(fields.get("token", "").strip(), request.peer)
        except Refused as refused:
            _log(logging.WARNING, "web.sign_in_refused", request, refused.text)
            answer = self.sign_in_page(request, refused.text, refused.status)
            answer.headers |= {key: value for key, value in refused.headers.items() if key == "Retry-After"}
            return answer
        _log(logging.INFO, "web.signed_in", request, "an operator has signed in")
        answer = see_other(request.base)
        answer.cookies.append(self._access.begin(request))
        return answer

    def _sign_out(self, request: Request) -> Response:
        check_origin(request)
        self._access.check_field(request, request.form().get("csrf", ""))
        answer = see_other(request.base)
        answer.cookies.append(self._access.end(request))
        return answer

    def _act(self, request: Request, action: str) -> Response:
        order = Order(action, {}, request.peer, "nobody")
        try:
            order = self._admitted(request, order)
            done = self._actions.carry_out(order)
        except Refused as refused:
            self._actions.refuse(order, refused)
            raise
        finally:
            self._acted()
        return self._answer(request, order, done)

    def _admitted(self, request: Request, order: Order) -> Order:
        """The order with its fields, if whoever sends it may act."""
        if not self._access.acts:
            raise _read_only()
        check_origin(request)
        if request.asked("token"):
            raise Refused(400, "the token does not belong into an address; send it as Authorization: Bearer")
        if self._access.check_bearer(request):
            return order._replace(fields=request.form(), via="token")
        if not self._access.is_signed_in(request):
            self._access.check_field(request, "")
        fields = request.form()
        self._access.check_field(request, fields.get("csrf", ""))
        return order._replace(fields=fields, via="session")

    def _answer(self, request: Request, order: Order, done: Done) -> Response:
        if request.wants_json():
            told: dict[str, Any] = {"done": order.action, "kind": done.kind, "name": done.name, "text": done.text}
            return as_json(200, told)
        back = f"{request.base}?"
        if done.kind in SHELVES:
            back = f"{request.base}policy?{urlencode({'kind': done.kind, 'name': done.name}, errors='surrogatepass')}&"
        return see_other(f"{back}done={order.action}")


def _read_only() -> Refused:
    return Refused(403, "this status page only shows; its application has given it no token")


def _log(level: int, event: str, request: Request, text: str) -> None:
    # Not each of a flood: whoever guesses tokens must not fill the disk.
    limited = level != logging.INFO
    log_note(LOGGER, level, event, "%s: %s", request.peer, text, kind="web", limited=limited, peer=request.peer)
