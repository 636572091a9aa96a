"""Who may act: the token, the sessions that begin with it, and the fields that show that a form is our own.

Sessions are not stored: a cookie says until when it is good, and is signed. The key for that is made from the token,
so that every process with the same token knows the sessions of the others, and a new token ends them all.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from resilient.clock import CLOCK
from resilient.errors import ConfigurationError
from resilient.events import log_note
from resilient.web.messages import LOGGER, Refused, Request

#: A token of fewer characters can be guessed, which is warned of.
SHORT_TOKEN = 16
#: How long a session lasts, in seconds.
SESSION = 8 * 3600
#: So many wrong tokens from one address, and from all of them, are looked at in `WINDOW` seconds.
WRONG_FROM_ONE, WRONG_FROM_ALL, WINDOW = 10, 200, 60.0


class Access:
    """The token of an app, and what follows from it; without a token, nobody may act."""

    def __init__(self, token: str | None, calendar: Callable[[], float]) -> None:
        self._token = None if token is None else check_token(token).encode()
        self._calendar = calendar
        self._wrong: deque[tuple[float, str]] = deque(maxlen=WRONG_FROM_ALL)
        self._lock = threading.RLock()
        self._key = b""
        if self._token is not None:
            # Slow on purpose: who has a cookie must not be able to try out tokens at home.
            self._key = hashlib.scrypt(self._token, salt=b"resilient.web", n=2**14, r=8, p=1, dklen=32)
        # Cookies are shared by all ports of a host; each app finds its own.
        suffix = self._signed("cookie")[:8]
        self._operator, self._guest = f"resilient_status_{suffix}", f"resilient_form_{suffix}"

    @property
    def acts(self) -> bool:
        """Whether anybody may act."""
        return self._token is not None

    # The token

    def check_bearer(self, request: Request) -> bool:
        """Whether the request has the token as `Authorization: Bearer`; Refused where it is wrong."""
        token = request.bearer()
        if token is None:
            return False
        self.check_token(token, request.peer)
        return True

    def check_token(self, given: str, peer: str) -> None:
        """Raise Refused unless this is the token; soon also without looking, as guessing must not pay."""
        with self._lock:
            now = CLOCK.monotonic()
            while self._wrong and now - self._wrong[0][0] >= WINDOW:
                self._wrong.popleft()
            mine = sum(address == peer for _, address in self._wrong)
            if mine >= WRONG_FROM_ONE or len(self._wrong) >= WRONG_FROM_ALL:
                raise Refused(429, "too many wrong tokens; wait a minute", Retry_After=f"{WINDOW:.0f}")
            if self._token is None or not hmac.compare_digest(given.encode("utf-8", "replace"), self._token):
                self._wrong.append((now, peer))
                raise Refused(401, "the token is wrong", WWW_Authenticate="Bearer")

    # Sessions

    def is_signed_in(self, request: Request) -> bool:
        """Whether the request belongs to a session that began with the token."""
        return self._nonce(request, self._operator) is not None

    def field(self, request: Request) -> str:
        """The anti-CSRF field for the forms of this session; "" where there is none."""
        nonce = self._nonce(request, self._operator)
        return "" if nonce is None else self._signed("form", nonce)

    def check_field(self, request: Request, given: str) -> None:
        """Raise Refused unless the request belongs to a session, and the form to it."""
        expected = self.field(request)
        if not expected:
            raise Refused(401, "sign in first, or send the token as Authorization: Bearer", WWW_Authenticate="Bearer")
        _compare(expected, given)

    def guest(self, request: Request) -> tuple[str, str | None]:
        """The anti-CSRF field for the form to sign in with, and the cookie to set for it, if there is none yet."""
        nonce = self._nonce(request, self._guest)
        if nonce is not None:
            return self._signed("form", nonce), None
        nonce, cookie = self._cookie(request, self._guest)
        return self._signed("form", nonce), cookie

    def check_guest(self, request: Request, given: str) -> None:
        """Raise Refused unless the form to sign in with was our own."""
        nonce = self._nonce(request, self._guest)
        _compare("" if nonce is None else self._signed("form", nonce), given)

    def begin(self, request: Request) -> str:
        """The cookie of a new session."""
        return self._cookie(request, self._operator)[1]

    def end(self, request: Request) -> str:
        """The cookie that ends the session in this browser."""
        return f"{self._operator}=; {self._attributes(request, 0)}"

    def _cookie(self, request: Request, name: str) -> tuple[str, str]:
        nonce, until = secrets.token_hex(16), str(int(self._calendar()) + SESSION)
        value = f"{until}.{nonce}.{self._signed(name, until, nonce)}"
        return nonce, f"{name}={value}; {self._attributes(request, SESSION)}"

    def _attributes(self, request: Request, seconds: int) -> str:
        secure = "; Secure" if request.secure else ""
        return f"Path={request.base}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"

    def _nonce(self, request: Request, name: str) -> str | None:
        """What tells the session of this cookie from others, if it is one of ours and still good."""
        for value in [] if self._token is None else _cookies(request.headers.get("cookie", ""), name):
            parts = value.split(".")
            signed = len(parts) == 3 and _same(self._signed(name, *parts[:2]), parts[2])
            if signed and self._calendar() < int(parts[0]):
                return parts[1]
        return None

    def _signed(self, *parts: str) -> str:
        return hmac.new(self._key, "|".join(parts).encode(), hashlib.sha256).hexdigest()

    def after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.RLock()


def check_origin(request: Request) -> None:
    """Raise Refused for what another site's page has made a browser send."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        fine = site in ("same-origin", "none")
    else:
        origin = request.headers.get("origin")
        fine = origin is None or _host(origin) == request.headers.get("host", "").lower()
    if not fine:
        raise Refused(403, "this was sent by a page of another site; use the status page itself")


def check_token(token: Any) -> str:
    """The token as it must be. It is not shown where it is not."""
    if not isinstance(token, str):
        raise TypeError(f"token: must be a string or None, not {type(token).__name__}")
    if not token:
        raise ConfigurationError(
            "token: is empty, so that anybody could act; secrets.token_urlsafe() makes one, and None lets nobody act"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError("token: must be of printable ASCII characters without spaces, as a header carries it")
    if len(token) < SHORT_TOKEN:
        text = "the token has only %d characters, and can be guessed; secrets.token_urlsafe() makes a better one"
        log_note(LOGGER, logging.WARNING, "web.weak_token", text, len(token), kind="web", limited=False)
    return token


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _cookies(header: str, name: str) -> list[str]:
    """The values of the cookies of this name; what other pages of the host have set may be as odd as it likes.

    Not by `http.cookies`, which forgets every cookie that comes after one that it does not understand.
    """
    pairs = (part.strip().partition("=") for part in re.split("[;,]", header))
    return [value for found, _, value in pairs if found == name]


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode("utf-8", "replace"))


def _compare(expected: str, given: str) -> None:
    if not expected or not _same(expected, given):
        raise Refused(403, "the form is not, or no longer, a form of this page; open the page again")
