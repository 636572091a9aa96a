"""What goes in and comes out of the status app, whatever server carries it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, parse_qsl, quote

if TYPE_CHECKING:
    from resilient.web.feed import Listener

LOGGER = logging.getLogger("resilient.web")

#: The most that the body of a request may have, in bytes.
LONGEST_BODY = 64 * 1024
#: The most fields that a form may have.
MOST_FIELDS = 100

FORM = "application/x-www-form-urlencoded"
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": browsers would then say of our own forms, too, that they come from nowhere (`Origin: null`).
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Refused(Exception):
    """A request that is answered by an error: `status`, what to say, and headers that go with it."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `prefix` is where the app is mounted, `path` what comes after it; names of headers are lower case."""

    method: str
    path: str
    prefix: str = ""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: str = ""
    secure: bool = False

    @property
    def base(self) -> str:
        """The absolute path of the page, under whatever prefix; ends in a slash."""
        inner = self.prefix.strip("/")
        # One slash at its beginning: with two, a browser would take it for the name of a host.
        return f"/{quote(inner)}/" if inner else "/"

    def asked(self, name: str) -> str:
        """The last value of a parameter of the query, "" without one."""
        try:
            found = parse_qs(self.query, keep_blank_values=True, errors="surrogatepass")
        except UnicodeDecodeError:
            found = parse_qs(self.query, keep_blank_values=True, errors="replace")
        return found.get(name, [""])[-1]

    def wants_json(self) -> bool:
        """Whether this is a program that asks, not somebody's form."""
        return self.bearer() is not None or "application/json" in self.headers.get("accept", "")

    def bearer(self) -> str | None:
        """The token in the header; None without one.

        Other schemes are none of our business: browsers send to us, too, what a proxy before us has asked them for.
        """
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None

    def form(self) -> dict[str, str]:
        """The fields of the form in the body. Raises Refused where there is none, or one that cannot be read."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != FORM:
            raise Refused(415, f"the body must be a form; send Content-Type: {FORM}")
        if len(self.body) > LONGEST_BODY:
            raise too_long()
        try:
            text = self.body.decode("ascii")
            pairs = parse_qsl(
                text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=MOST_FIELDS
            )
        except ValueError:
            raise Refused(400, "the form cannot be read: send name=value&name=value, percent-encoded UTF-8") from None
        fields = dict(pairs)
        if len(fields) < len(pairs):
            raise Refused(400, "the form names a field twice; send each field once")
        return fields


@dataclass(slots=True)
class Response:
    """An answer with a body that is complete."""

    status: int
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    cookies: list[str] = field(default_factory=list)
    policy: str = _NOTHING

    def all_headers(self) -> list[tuple[str, str]]:
        """Every header of the answer. None has a line break, whatever they were made from."""
        named = {
            "Content-Type": self.kind,
            "Content-Length": str(len(self.body)),
            "Content-Security-Policy": self.policy,
            **_ALWAYS,
            **self.headers,
        }
        pairs = [*named.items(), *(("Set-Cookie", one) for one in self.cookies)]
        return [(name, "".join(value.splitlines())) for name, value in pairs]

    @property
    def reason(self) -> str:
        """The words that go with the status."""
        return HTTPStatus(self.status).phrase


class Stream(NamedTuple):
    """An answer that goes on: the lines of `listener` until it is closed, after `first`."""

    listener: Listener
    first: bytes
    status: int = 200

    def all_headers(self) -> list[tuple[str, str]]:
        """Every header of the answer."""
        named = {
            "Content-Type": "text/event-stream; charset=utf-8",
            "Content-Security-Policy": _NOTHING,
            # Else nginx would collect what is to be seen at once.
            "X-Accel-Buffering": "no",
            **_ALWAYS,
        }
        return list(named.items())


def as_json(status: int, value: Any, **headers: str) -> Response:
    """An answer in JSON."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(status, to_json(value), "application/json", named)


def error_of(status: int, text: str) -> Response:
    """An error in JSON."""
    return as_json(status, {"error": text})


def to_json(value: Any) -> bytes:
    """JSON in UTF-8. Half characters, which UTF-8 does not have, are written as escapes by `json` itself."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def see_other(place: str) -> Response:
    """Send the browser to another page, by GET."""
    return Response(303, headers={"Location": place})


def too_long() -> Refused:
    """The refusal of a body that is longer than any form of ours."""
    return Refused(413, f"the body is too long; a form has at most {LONGEST_BODY:,} bytes")
