"""Where `resilient status` gets its picture from: the snapshot of a status page, over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import Any

from resilient.demo.table import SHELVES

#: Longer than this no answer is, even of tens of thousands of policies.
_LONGEST = 64 * 1024 * 1024


class SourceError(Exception):
    """The snapshot cannot be had; the message says why, and what to do."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A page that has moved is told of: the address is better put right than followed each time."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Source:
    """One status page. `url` is that of the page, as it is opened in a browser; `timeout` is in seconds."""

    def __init__(self, url: str, timeout: float = 5.0) -> None:
        self.url = checked(url)
        self._timeout = timeout
        # No proxy: what is looked at is mostly on this machine, or beside it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

    def fetch(self) -> dict[str, Any]:
        """The snapshot of now. Raises SourceError."""
        address = f"{self.url}/api/snapshot"
        try:
            with self._opener.open(address, timeout=self._timeout) as answer:
                body = answer.read(_LONGEST + 1)
        except urllib.error.HTTPError as error:
            error.close()
            raise SourceError(f"{address} answered {error.code} {error.reason}: is this the status page?") from None
        except (OSError, HTTPException) as error:
            why = getattr(error, "reason", None) or error
            raise SourceError(f"{address} cannot be reached ({why}): is the application running?") from None
        return _snapshot(address, body)


def _snapshot(address: str, body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body) if len(body) <= _LONGEST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not _has_shape(found):
        raise SourceError(f"{address} answered something that is no snapshot: is this the status page?")
    return found


def _has_shape(found: dict[str, Any]) -> bool:
    """Whether everything that will be shown is of the kind that it must be; what is not there need not be."""
    named = [found.get(key, {}) for key in (*SHELVES, "degradation_managers")]
    listed = [found.get(key, []) for key in ("transitions", "executions")]
    if "circuit_breakers" not in found or not isinstance(found.get("problems", []), list):
        return False
    if not all(isinstance(one, dict) for one in (*named, found.get("rates", {}))):
        return False
    if not all(isinstance(one, list) for one in listed):
        return False
    services = [one.get("services", {}) for one in named[-1].values() if isinstance(one, dict)]
    if not all(isinstance(one, dict) for one in services):
        return False
    facts = [fact for one in (*named, *services) for fact in one.values()] + [fact for one in listed for fact in one]
    return all(isinstance(fact, dict) and isinstance(fact.get("waiting_for") or [], list) for fact in facts)


def checked(url: str) -> str:
    """The address of a status page without a slash at its end. Raises ValueError for what is none."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be the address of a status page, such as http://127.0.0.1:8000/status")
    if parts.username or parts.password:
        raise ValueError("must have no name and password in it, as others can see the command line")
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
