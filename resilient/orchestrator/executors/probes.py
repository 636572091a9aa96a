"""One look at whether something is well: an HTTP GET, a TCP connect, or a function."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from resilient.orchestrator.executors.failures import reason

#: What a probe returns: whether all is well, and what there was to see.
Sight = tuple[bool, Any]


def tcp(host: str, port: int, timeout: float) -> Callable[[], Sight]:
    """Well is what accepts a connection."""

    def probe() -> Sight:
        try:
            socket.create_connection((host, port), timeout).close()
        except OSError as error:
            return False, reason(error)
        return True, "connected"

    return probe


def http(url: str, status: int | None, timeout: float) -> Callable[[], Sight]:
    """Well is what answers a GET with this status, or with any from 200 to 299."""

    def probe() -> Sight:
        try:
            answered = _status(url, timeout)
        except (OSError, ValueError) as error:  # URLError is an OSError
            return False, reason(getattr(error, "reason", None) or error) if _has_reason(error) else reason(error)
        return (200 <= answered < 300 if status is None else answered == status), answered

    return probe


def _has_reason(error: BaseException) -> bool:
    return isinstance(getattr(error, "reason", None), BaseException)


def _status(url: str, timeout: float) -> int:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request

    address, login = _parted(url)
    request = Request(address, headers={"User-Agent": "resilient-health-check"})  # noqa: S310 - of http or https only
    if login:
        request.add_unredirected_header("Authorization", login)
    try:
        with _opener(address).open(request, timeout=timeout) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code
    except HTTPException as error:
        raise OSError(f"no answer in HTTP ({type(error).__name__})") from None


def _parted(url: str) -> tuple[str, str | None]:
    """A URL without user and password, and what to tell the server of them."""
    from base64 import b64encode

    parts = urlsplit(url)
    who, _, host = parts.netloc.rpartition("@")
    login = f"Basic {b64encode(unquote(who).encode()).decode()}" if who else None
    return parts._replace(netloc=host, fragment="").geturl(), login


def _opener(url: str) -> Any:
    """Opens HTTP and nothing else, wherever redirects may lead; asks no proxy for what is on this machine."""
    from urllib import request

    opener = request.OpenerDirector()
    handlers: list[Any] = [request.HTTPHandler(), request.HTTPSHandler(), request.HTTPErrorProcessor()]
    handlers += [request.HTTPDefaultErrorHandler(), request.UnknownHandler(), _redirects()]
    if not is_loopback(urlsplit(url).hostname or ""):
        handlers.append(request.ProxyHandler())
    for handler in handlers:
        opener.add_handler(handler)
    return opener


def _redirects() -> Any:
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler

    class OnlyHttp(HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            if urlsplit(newurl).scheme not in {"http", "https"}:
                raise HTTPError(req.full_url, code, "redirected to what is not HTTP", headers, fp)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return OnlyHttp()


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Place(NamedTuple):
    """Where a URL leads, without what may be secret in it."""

    text: str
    problem: str | None


def place_of(url: str) -> Place:
    """Where a URL leads, or what is wrong with it."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return Place("", "a text that is no URL")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return Place("", f"the scheme {parts.scheme!r}" if parts.hostname else "a text without a host")
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        return Place("", "a text with blanks or control characters")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Place(f"{parts.scheme}://{host}{port}{parts.path}", None)
